"""External classes that are labels themselves: found by synset, by name, and by vector.

A backbone that knows "computer keyboard" has seen photos of the label "keyboard". In deployment that is the best
evidence there is; in an experiment on unseen labels it is a leak.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mlzsl.cli.text import first_of, label_key
from mlzsl.graph.embeddings.minilm import shipped_vectors
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.graph.taxonomy import Taxonomy

Overlap = Literal["keep", "leave-out", "synsets"]
KEEP: Overlap = "keep"
LEAVE_OUT: Overlap = "leave-out"
SYNSETS: Overlap = "synsets"  # leave out those with the synset of a label only: the rule of mlzsl 0.1

SAME_NAME, SAME_THING = 0.80, 0.87  # least cosines of the shipped vectors: of equal names, and of any names


@dataclass(frozen=True)
class SharedClass:
    """An external class that is a label.

    Attributes:
        label: its name in the label set.
        external: the class's index among the backbone's logits.
        how: synset: both have the same one; name: a lemma of the class is the label's name; vector: their meanings are
            close.
    """

    label: str
    external: int
    how: Literal["synset", "name", "vector"]


def shared_classes(labels: LabelSet, external: LabelSet, overlap: Overlap) -> tuple[SharedClass, ...]:
    """The external classes that are labels by the rule of `overlap`, whether it keeps them or leaves them out."""
    return tuple(each for each in find_overlap(labels, external) if overlap != SYNSETS or each.how == "synset")


def described_overlap(shared: Sequence[SharedClass], external: LabelSet, overlap: Overlap) -> str | None:
    """A sentence on the external classes that are labels, and what becomes of them; None if there is none."""
    if not shared:
        return None
    named = [f"{external.labels[each.external]} ({each.label})" for each in shared]
    what = "1 external class is a label" if len(shared) == 1 else f"{len(shared):,} external classes are labels"
    return f"{what}, {'kept' if overlap == KEEP else 'left out of the class graph'}: {first_of(named)}"


def find_overlap(labels: LabelSet, external: LabelSet) -> tuple[SharedClass, ...]:
    """Find the external classes that are labels, each with the first label that it is, in the order of the logits.

    Equal names count if a label has no synset or the shipped vectors agree: "kite" is a bird among ImageNet's classes,
    and a toy in COCO. Different names count if the vectors are as close as those of "tv" and "television". Labels
    without a shipped vector are compared by synset and name alone.

    Args:
        labels: the targets.
        external: the backbone's classes.
    """
    taxonomy = Taxonomy.shipped()
    by_synset = {synset: label for label, synset in zip(labels.labels[::-1], labels.synsets[::-1], strict=True)}
    by_name = {label_key(label): row for row, label in reversed(list(enumerate(labels.labels)))}
    vectors, classes = shipped_vectors(labels), shipped_vectors(external)
    cosines = classes @ vectors.T  # 0 where one has no vector
    nearest = cosines.argmax(axis=1) if len(labels) else np.zeros(len(external), np.int64)
    found = []
    for index, (name, synset) in enumerate(zip(external.labels, external.synsets, strict=True)):
        lemmas = taxonomy.lemmas(taxonomy.index(synset)) if synset else []
        named = [by_name[key] for key in map(label_key, (name, *lemmas)) if key in by_name]
        same = [row for row in named if labels.synsets[row] is None or cosines[index, row] >= SAME_NAME]
        if synset and synset in by_synset:
            found.append(SharedClass(by_synset[synset], index, "synset"))
        elif same:
            found.append(SharedClass(labels.labels[same[0]], index, "name"))
        elif len(labels) and cosines[index, nearest[index]] >= SAME_THING:
            found.append(SharedClass(labels.labels[nearest[index]], index, "vector"))
    return tuple(found)
