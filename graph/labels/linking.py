"""From a label to its synset, by a stated rule: explicit, known by name, first noun sense, or an error.

1. A synset written beside the label is taken as it is.
2. A name that coco80, nuswide81 or voc20 has means what it means there; every one of those was looked at.
3. Otherwise the first noun sense of the whole name, its blanks as `_`, as `-` or left out ("cell phone" is
   WordNet's `cellphone`); if WordNet lacks it, of its singular ("wolves", "traffic lights").
4. Otherwise the label cannot be placed: an error that names it and the nearest candidates.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from mlzsl.cli.errors import UsageError
from mlzsl.graph.taxonomy import Taxonomy, nearest

Rule = Literal["explicit", "known name", "first sense", "singular"]

# WordNet's own endings of regular plurals (its morphology, "detachment rules" of nouns).
PLURAL_ENDINGS = (
    ("s", ""),
    ("ses", "s"),
    ("ves", "f"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
)


class UnlinkedLabelError(UsageError):
    """A label has no noun synset by the rule."""


@dataclass(frozen=True)
class LinkedLabel:
    """Where a label stands in WordNet, and by which part of the rule."""

    synset: str  # canonical name, dog.n.01
    rule: Rule
    senses: int  # how many noun senses the name has in WordNet; 0 when a synset was written beside it


def link_label(
    taxonomy: Taxonomy, label: str, synset: str | None = None, known: Mapping[str, str] | None = None
) -> LinkedLabel:
    """Place one label in the taxonomy.

    Args:
        taxonomy: where synsets are looked up.
        label: the name, such as `traffic lights`.
        synset: a synset written beside it, by name or wnid.
        known: names whose synsets somebody has chosen by hand.

    Raises:
        UnknownSynsetError: `synset` does not exist.
        UnplacedLabelError: no part of the rule fits; the sentence names the nearest candidates.
    """
    if synset is not None:
        return LinkedLabel(taxonomy.name(synset), "explicit", 0)
    senses = _first_with_senses(taxonomy, _spellings(label))
    if known and (chosen := known.get(label.lower())):
        return LinkedLabel(chosen, "known name", len(senses))
    if senses:
        return LinkedLabel(senses[0], "first sense", len(senses))
    senses = _first_with_senses(taxonomy, (s for base in singulars(taxonomy, label) for s in _spellings(base)))
    if senses:
        return LinkedLabel(senses[0], "singular", len(senses))
    near = suggest_synsets(taxonomy, label)
    hint = f"near are {', '.join(near)}; " if near else ""
    raise UnlinkedLabelError(
        f"the label {label!r} is no noun of WordNet; {hint}"
        f"write the synset after it, separated by a tab: {label}<TAB>{near[0] if near else 'dog.n.01'}."
    )


def singulars(taxonomy: Taxonomy, name: str) -> Iterator[str]:
    """Yield what a name may be the plural of, its last word changed as WordNet does; some are no words."""
    before, _, last = name.lower().replace("_", " ").rpartition(" ")
    bases = list(taxonomy.irregular_plurals.get(last, ()))
    bases += [last.removesuffix(old) + new for old, new in PLURAL_ENDINGS if last.endswith(old)]
    for base in bases:
        if base:
            yield f"{before} {base}".strip()


def suggest_synsets(taxonomy: Taxonomy, label: str) -> tuple[str, ...]:
    """Return up to four synsets that a name may have meant: typing errors, its head noun, other spellings."""
    lemma = "_".join(label.lower().split())
    alike = [f"{word}.n.01" for word in nearest(lemma, taxonomy.senses_of_lemmas, 3)]
    typos = [f"{word}.n.01" for word in nearest(lemma, taxonomy.senses_of_lemmas, 2, cutoff=0.85)]
    head = lemma.rpartition("_")[2]
    of_head = [sense for word in (head, *singulars(taxonomy, head)) for sense in taxonomy.senses(word)[:2]]
    names = typos + of_head + alike
    return tuple(dict.fromkeys(names))[:4]


def _spellings(name: str) -> tuple[str, ...]:
    words = name.lower().replace("_", " ").split()
    return "_".join(words), "-".join(words), "".join(words)


def _first_with_senses(taxonomy: Taxonomy, lemmas: Iterator[str] | tuple[str, ...]) -> tuple[str, ...]:
    return next((senses for lemma in lemmas if (senses := taxonomy.senses(lemma))), ())
