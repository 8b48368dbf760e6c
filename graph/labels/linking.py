"""Synset linking: from a label to its WordNet synset.

1. A synset written beside the label is used as it is.
2. A name of coco80, nuswide81 or voc20, or its plural, has the synset that it has there; those were chosen by hand.
3. Otherwise the candidates are the senses of the whole name and those of its singular ("wolves", "traffic lights"). The
   name's own come first: `glasses` are spectacles before they are drinking glasses. For plurals whose own sense is not
   what photos show (`men`: the workforce, `clocks`: a plant), the first candidate was chosen by hand
   (`graph/data/plurals_by_hand.txt`).
4. Otherwise linking fails with an error that names the label and similar synsets.

Names are the same whatever their case, Unicode form, accents and punctuation ("cell phone" is WordNet's `cellphone`).
Senses are in WordNet's order, the most frequent first, but common nouns come before proper names where a capital says
nothing: for labels in lower case (`china` is porcelain before it is the country), and in lists that capitalize all
labels (`Crane` is the machine before the writer). `China` among labels in lower case is the country.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from mlzsl.cli.text import label_key
from mlzsl.graph.taxonomy import NoSynsetError, Taxonomy

Rule = Literal["explicit", "known name", "plural", "first sense", "singular"]

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


TYPO = 0.85  # spellings of a greater ratio (difflib) are typing errors


class UnlinkedLabelError(NoSynsetError):
    """No rule links the label to a noun synset."""


@dataclass(frozen=True)
class LinkedLabel:
    """The synset of a label, and the rule that linked it."""

    synset: str  # canonical name, dog.n.01
    rule: Rule
    candidates: tuple[str, ...] = ()  # the synsets that the name may mean, best first; none for an explicit synset
    singular: str | None = None  # set where a word of its own is also the plural of this one, which has other senses

    @property
    def alternatives(self) -> tuple[str, ...]:
        """The candidates that were not chosen."""
        return tuple(sense for sense in self.candidates if sense != self.synset)

    @property
    def is_ambiguous(self) -> bool:
        """Whether the name may mean another synset; a name of the sets linked by hand only if that comes first."""
        return bool(self.alternatives) and (self.rule != "known name" or self.candidates[0] != self.synset)


def link_label(
    taxonomy: Taxonomy,
    label: str,
    synset: str | None = None,
    known: Mapping[str, str] | None = None,
    proper_names: bool = True,
    suggest: bool = True,
) -> LinkedLabel:
    """Link one label to its synset.

    Args:
        taxonomy: where synsets are looked up.
        label: the name, such as `traffic lights`.
        synset: an explicit synset, by name or wnid.
        known: the `label_key` of names whose synsets were chosen by hand, with those.
        proper_names: whether a label with capitals may be a proper name; not in a list that capitalizes all labels.
        suggest: whether the error about an unlinked label names similar synsets, which takes a millisecond to find.

    Raises:
        UnknownSynsetError: `synset` does not exist.
        UnlinkedLabelError: no rule applies; the sentence names similar synsets.
    """
    if synset is not None:
        return LinkedLabel(taxonomy.name(synset), "explicit")
    key, common_first = label_key(label), not proper_names or label == label.lower()
    own = taxonomy.senses(label, common_first)
    # A word of its own is not the plural of a proper name: `gas` has nothing to do with Ga (gallium).
    singulars = {
        name: taxonomy.common_senses(name) if own else taxonomy.senses(name, common_first)
        for name in singular_names(taxonomy, label)
    }
    of_singulars = [sense for senses in singulars.values() for sense in senses]
    rule: Rule
    if known_as := next((name for name in (key, *singulars) if name in (known or {})), None):
        chosen, rule = (known or {})[known_as], "known name"
    elif key in taxonomy.plurals_by_hand:
        chosen, rule = taxonomy.plurals_by_hand[key], "plural"
    elif own:
        chosen, rule = own[0], "first sense"
    elif of_singulars:
        chosen, rule = of_singulars[0], "singular"
    else:
        raise _unlinked(label, suggest_synsets(taxonomy, label) if suggest else ())
    # The first sense of each reading comes before the others, so that lists cut short show both.
    candidates = dict.fromkeys((*own[:1], *of_singulars[:1], *taxonomy.senses(label), *of_singulars))
    hidden = next((name for name, senses in singulars.items() if own and not set(senses) <= set(own)), None)
    return LinkedLabel(chosen, rule, tuple(candidates), hidden)


def singular_names(taxonomy: Taxonomy, name: str) -> Iterator[str]:
    """Yield possible singulars of a name, its last word changed by WordNet's rules; some are not words."""
    words = label_key(name).split()
    for spelled in ("_".join(words), "-".join(words)):
        yield from map(label_key, taxonomy.irregular_plurals.get(spelled, ()) if len(words) > 1 else ())
    *before, last = words or [""]
    bases = list(taxonomy.irregular_plurals.get(last, ()))
    if len(last) > 2 and not last.endswith("ss"):
        bases += [last.removesuffix(old) + new for old, new in PLURAL_ENDINGS if last.endswith(old)]
    yield from (" ".join((*before, base)) for base in dict.fromkeys(bases) if base)


def suggest_synsets(taxonomy: Taxonomy, label: str) -> tuple[str, ...]:
    """Up to four synsets that a label may mean: typing errors, its head noun, other spellings."""
    lemma = "_".join(label_key(label).split())
    similar = taxonomy.similar_lemmas(lemma, 3)
    typos = [word for word, ratio in similar if ratio >= TYPO][:2]
    head = lemma.rpartition("_")[2]
    of_head = [sense for word in (head, *singular_names(taxonomy, head)) for sense in taxonomy.senses(word)[:2]]
    names = (*(f"{word}.n.01" for word in typos), *of_head, *(f"{word}.n.01" for word, _ in similar))
    return tuple(dict.fromkeys(names))[:4]


def _unlinked(label: str, similar: tuple[str, ...]) -> UnlinkedLabelError:
    hint = f"similar are {', '.join(similar)}; " if similar else ""
    return UnlinkedLabelError(
        f"the label {label!r} is not a noun of WordNet; {hint}"
        f"write its synset after it, separated by a tab: {label}<TAB>{similar[0] if similar else 'dog.n.01'}.",
        similar,
    )
