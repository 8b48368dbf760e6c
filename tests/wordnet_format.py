"""Write the taxonomy in WordNet's own file format, so that nltk and other readers of WordNet can open it.

That makes nltk itself the reference in tests and benchmarks where no WordNet is installed. Offsets, lemmas, senses,
hypernyms and glosses are WordNet's; other relations and other parts of speech are left out.
"""

from collections.abc import Iterable
from pathlib import Path

from mlzsl.graph.taxonomy import Taxonomy

# The lexicographer files of WordNet 3.0 in the order of their numbers, and the digit of their part of speech.
LEXICOGRAPHER_FILES = (
    *("adj.all 3", "adj.pert 3", "adv.all 4", "noun.Tops 1", "noun.act 1", "noun.animal 1", "noun.artifact 1"),
    *("noun.attribute 1", "noun.body 1", "noun.cognition 1", "noun.communication 1", "noun.event 1"),
    *("noun.feeling 1", "noun.food 1", "noun.group 1", "noun.location 1", "noun.motive 1", "noun.object 1"),
    *("noun.person 1", "noun.phenomenon 1", "noun.plant 1", "noun.possession 1", "noun.process 1"),
    *("noun.quantity 1", "noun.relation 1", "noun.shape 1", "noun.state 1", "noun.substance 1", "noun.time 1"),
    *("verb.body 2", "verb.change 2", "verb.cognition 2", "verb.communication 2", "verb.competition 2"),
    *("verb.consumption 2", "verb.contact 2", "verb.creation 2", "verb.emotion 2", "verb.motion 2"),
    *("verb.perception 2", "verb.possession 2", "verb.social 2", "verb.stative 2", "verb.weather 2", "adj.ppl 3"),
)
LEXNAMES = "".join(f"{number:02d}\t{name.replace(' ', chr(9))}\n" for number, name in enumerate(LEXICOGRAPHER_FILES))

NOUN_TOPS = 3  # the number of noun.Tops: the shipped data does not have the lexicographer files
PREAMBLE = "  1 WordNet 3.0 Copyright 2006 by Princeton University; nouns only.\n"
EMPTY_FILES = ("cntlist.rev", "index.sense", "adj.exc", "adv.exc", "verb.exc")


def write_wordnet(taxonomy: Taxonomy, folder: str | Path, synsets: Iterable[str] | None = None) -> None:
    """Write data.noun, index.noun, noun.exc, lexnames and the other files that nltk's reader wants into a folder.

    Args:
        taxonomy: what to write.
        folder: where; made when missing.
        synsets: write only these and all their hypernyms. Senses keep their numbers.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = range(len(taxonomy)) if synsets is None else _closure(taxonomy, synsets)
    (folder / "data.noun").write_bytes(_data(taxonomy, wanted))
    (folder / "index.noun").write_text(_index(taxonomy, wanted), encoding="ascii")
    (folder / "lexnames").write_text(LEXNAMES, encoding="ascii")
    for part_of_speech in ("adj", "adv", "verb"):
        (folder / f"data.{part_of_speech}").write_text(PREAMBLE, encoding="ascii")
        (folder / f"index.{part_of_speech}").write_text(PREAMBLE, encoding="ascii")
    plurals = (f"{plural} {' '.join(bases)}\n" for plural, bases in taxonomy.irregular_plurals.items())
    (folder / "noun.exc").write_text("".join(plurals), encoding="ascii")
    for name in EMPTY_FILES:
        (folder / name).touch()


def _closure(taxonomy: Taxonomy, synsets: Iterable[str]) -> list[int]:
    indices = {taxonomy.index(synset) for synset in synsets}
    return sorted({ancestor for index in indices for ancestor in taxonomy.ancestors(index)})


def _data(taxonomy: Taxonomy, indices: Iterable[int]) -> bytes:
    """Put each line at the byte that its synset is known by, with blank lines between."""
    content = bytearray(PREAMBLE.encode("ascii"))
    offsets = taxonomy.offsets.tolist()
    for index in indices:
        gap = offsets[index] - len(content)
        content += b" " * (gap - 1) + b"\n" if gap else b""
        content += _line(taxonomy, index, offsets).encode("ascii")
    return bytes(content)


def _line(taxonomy: Taxonomy, index: int, offsets: list[int]) -> str:
    lemmas = taxonomy.lemmas(index)
    words = "".join(f"{lemma} 0 " for lemma in lemmas)
    parents = taxonomy.parents(index)
    pointers = "".join(f"@ {offsets[parent]:08d} n 0000 " for parent in parents)
    return (
        f"{offsets[index]:08d} {NOUN_TOPS:02d} n {len(lemmas):02x} {words}"
        f"{len(parents):03d} {pointers}| {taxonomy.glosses[index]}\n"
    )


def _index(taxonomy: Taxonomy, indices: Iterable[int]) -> str:
    lemmas = {lemma for index in indices for lemma in taxonomy.lemma_lines[index].lower().split(" ")}
    offsets = taxonomy.offsets.tolist()
    lines = [PREAMBLE]
    for lemma in sorted(lemmas):
        senses = taxonomy.senses_of_lemmas[lemma]
        numbers = " ".join(f"{offsets[sense]:08d}" for sense in senses)
        lines.append(f"{lemma} n {len(senses)} 0 {len(senses)} 0 {numbers}\n")
    return "".join(lines)
