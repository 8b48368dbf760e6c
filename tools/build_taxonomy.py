"""Build graph/data/ from WordNet 3.0: every noun synset with its hypernyms, lemmas, senses and gloss.

    python tools/build_taxonomy.py                          # from nltk's data folder
    python tools/build_taxonomy.py --wordnet /usr/share/wordnet
    mlzsl-fetch wordnet && python tools/build_taxonomy.py --wordnet data/wordnet/wordnet

The same WordNet gives byte-identical output. Three of its files are read: data.noun, index.noun, noun.exc.
"""

import argparse
import lzma
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlzsl.cli.outputs import written_atomically

DATA = Path(__file__).resolve().parent.parent / "graph" / "data"
HYPERNYM_POINTERS = {"@", "@i"}  # hypernyms and instance hypernyms: nltk's wup_similarity uses both

Reader = Callable[[str], Iterable[str]]


class Synset(NamedTuple):
    offset: int
    lemmas: list[str]  # in WordNet's order, in its spelling
    hypernyms: list[int]  # offsets, in WordNet's order
    gloss: str


def main() -> None:
    arguments = _arguments()
    try:
        read = _wordnet(arguments.wordnet)
        synsets = list(_synsets(read("data.noun")))
        senses = dict(_senses(read("index.noun")))
        plurals = dict(line.split(maxsplit=1) for line in read("noun.exc"))
    except (OSError, LookupError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        sys.exit(
            "build_taxonomy: error: no readable WordNet 3.0 "
            f"({arguments.wordnet or 'nltk data folder'}: {reason}); "
            "name its folder with --wordnet; mlzsl-fetch wordnet downloads one."
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    _write_hierarchy(arguments.out / "hierarchy.npz", synsets, senses)
    _write_text(arguments.out / "lemmas.txt.xz", (" ".join(synset.lemmas) for synset in synsets))
    _write_text(arguments.out / "glosses.txt.xz", (synset.gloss for synset in synsets))
    _write_text(arguments.out / "plurals.txt.xz", (f"{plural} {bases.strip()}" for plural, bases in plurals.items()))
    for path in sorted(arguments.out.iterdir()):
        print(f"{path}  {path.stat().st_size:,} bytes")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=Path, help="a folder with WordNet 3.0's data.noun, index.noun, noun.exc")
    parser.add_argument("--out", type=Path, default=DATA, help="the folder to write (default: graph/data)")
    return parser.parse_args()


def _wordnet(folder: Path | None) -> Reader:
    """A function that reads the lines of one of WordNet's files, from a folder or nltk's data."""
    if folder is not None:
        return lambda name: (folder / name).read_text(encoding="utf-8").splitlines()
    import nltk  # imported here: a WordNet folder needs no nltk

    try:
        root = nltk.data.find("corpora/wordnet")
    except LookupError:
        root = nltk.data.find("corpora/wordnet.zip/wordnet/")
    return lambda name: root.join(name).open(encoding="utf-8").read().splitlines()


def _synsets(lines: Iterable[str]) -> Iterator[Synset]:
    """Parse data.noun: `offset lexfile n count (lemma id)* count (pointer offset pos fields)* | gloss`."""
    for line in lines:
        if line.startswith(" "):  # the licence
            continue
        columns, gloss = line.split(" | ", 1)
        fields = columns.split()
        lemma_count = int(fields[3], 16)
        lemmas = fields[4 : 4 + 2 * lemma_count : 2]
        pointers = fields[5 + 2 * lemma_count :]
        hypernyms = [
            int(target)
            for kind, target in zip(pointers[::4], pointers[1::4], strict=False)
            if kind in HYPERNYM_POINTERS
        ]
        yield Synset(int(fields[0]), lemmas, hypernyms, gloss.strip())


def _senses(lines: Iterable[str]) -> Iterator[tuple[tuple[str, int], int]]:
    """Parse index.noun into ((lemma, synset offset), sense number); the first sense is 1."""
    for line in lines:
        if line.startswith(" "):
            continue
        fields = line.split()
        for sense, offset in enumerate(fields[-int(fields[2]) :], start=1):
            yield (fields[0], int(offset)), sense


def _write_hierarchy(path: Path, synsets: list[Synset], senses: dict[tuple[str, int], int]) -> None:
    """Write the arrays, in data.noun's order; the flat ones in the order of each synset's hypernyms and lemmas."""
    index_of = {synset.offset: index for index, synset in enumerate(synsets)}
    with written_atomically(path) as temporary:
        np.savez_compressed(
            temporary,
            offset_steps=np.diff([synset.offset for synset in synsets], prepend=0).astype(np.int32),
            hypernym_counts=np.array([len(synset.hypernyms) for synset in synsets], np.uint8),
            hypernyms=np.array([index_of[offset] for s in synsets for offset in s.hypernyms], np.int32),
            hyponym_counts=np.array(_hyponym_counts(synsets), np.int32),
            senses=np.array([senses[lemma.lower(), s.offset] for s in synsets for lemma in s.lemmas], np.uint8),
        )


def _hyponym_counts(synsets: list[Synset]) -> list[int]:
    """The number of different synsets below each one, at any depth."""
    hypernyms = {synset.offset: synset.hypernyms for synset in synsets}
    counts = dict.fromkeys(hypernyms, 0)
    for offset in hypernyms:
        above = set(hypernyms[offset])
        waiting = list(above)
        while waiting:
            new = set(hypernyms[waiting.pop()]) - above
            above |= new
            waiting.extend(new)
        for ancestor in above:
            counts[ancestor] += 1
    return [counts[synset.offset] for synset in synsets]


def _write_text(path: Path, lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    with written_atomically(path) as temporary:
        temporary.write_bytes(lzma.compress(text.encode("utf-8"), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    main()
