"""Synset linking: from a label to its WordNet synset.

1. A synset written beside the label is used as it is.
2. A name of coco80, nuswide81 or voc20 has the synset that it has there; each of those was chosen by hand.
3. Otherwise the first noun sense of the whole name, its spaces as `_`, as `-` or left out ("cell phone" is
   WordNet's `cellphone`); if WordNet lacks the name, the first sense of its singular ("wolves", "traffic lights").
4. Otherwise linking fails with an error that names the label and similar synsets.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from mlzsl.cli.errors import UsageError
from mlzsl.graph.taxonomy import Taxonomy, similar_words

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
    """No rule links the label to a noun synset."""


@dataclass(frozen=True)
class LinkedLabel:
    """The synset of a label, and the rule that linked it."""

    synset: str  # canonical name, dog.n.01
    rule: Rule
    senses: int  # noun senses of the name in WordNet; 0 for an explicit synset


def link_label(
    taxonomy: Taxonomy, label: str, synset: str | None = None, known: Mapping[str, str] | None = None
) -> LinkedLabel:
    """Link one label to its synset.

    Args:
        taxonomy: where synsets are looked up.
        label: the name, such as `traffic lights`.
        synset: an explicit synset, by name or wnid.
        known: names with synsets that were chosen by hand.

    Raises:
        UnknownSynsetError: `synset` does not exist.
        UnlinkedLabelError: no rule applies; the sentence names similar synsets.
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
    similar = suggest_synsets(taxonomy, label)
    hint = f"similar are {', '.join(similar)}; " if similar else ""
    raise UnlinkedLabelError(
        f"the label {label!r} is not a noun of WordNet; {hint}"
        f"write its synset after it, separated by a tab: {label}<TAB>{similar[0] if similar else 'dog.n.01'}."
    )


def singulars(taxonomy: Taxonomy, name: str) -> Iterator[str]:
    """Yield possible singulars of a name, its last word changed by WordNet's rules; some are not words."""
    before, _, last = name.lower().replace("_", " ").rpartition(" ")
    bases = list(taxonomy.irregular_plurals.get(last, ()))
    bases += [last.removesuffix(old) + new for old, new in PLURAL_ENDINGS if last.endswith(old)]
    yield from (f"{before} {base}".strip() for base in bases if base)


def suggest_synsets(taxonomy: Taxonomy, label: str) -> tuple[str, ...]:
    """Up to four synsets that a label may mean: typing errors, its head noun, other spellings."""
    lemma = "_".join(label.lower().split())
    typos = similar_words(lemma, taxonomy.senses_of_lemmas, 2, cutoff=0.85)
    head = lemma.rpartition("_")[2]
    of_head = [sense for word in (head, *singulars(taxonomy, head)) for sense in taxonomy.senses(word)[:2]]
    others = similar_words(lemma, taxonomy.senses_of_lemmas, 3)
    names = (*(f"{word}.n.01" for word in typos), *of_head, *(f"{word}.n.01" for word in others))
    return tuple(dict.fromkeys(names))[:4]


def _spellings(name: str) -> tuple[str, ...]:
    words = name.lower().replace("_", " ").split()
    return "_".join(words), "-".join(words), "".join(words)


def _first_with_senses(taxonomy: Taxonomy, lemmas: Iterable[str]) -> tuple[str, ...]:
    return next((senses for lemma in lemmas if (senses := taxonomy.senses(lemma))), ())
