"""How near an engine's scores come to their reference: differences, decisions that flip, the best labels.

Parts add up, so that any number of photos is compared in the memory of one batch:

    agreement = combined(compare(scores, reference) for scores, reference in batches)
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import FailureError
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Scores

DECISION = 0.5  # the score from which a label counts as given where the manifest has no threshold for it
TOP_K = 3
PER_MILLE = 999  # the percentile that is reported, in whole numbers: 99.9 / 100 is not 0.999

# Differences are counted by the upper bits of a float32: the exponent and 6 bits of fraction, so that a bin is 1/64 of
# its value wide whether differences are 1e-7 or 0.1. Everything below 2**-32 is one bin, everything from 1 up another.
FRACTION_BITS = 6
_SHIFT = 23 - FRACTION_BITS
_LOWEST, _HIGHEST = (int(np.float32(edge).view(np.uint32)) >> _SHIFT for edge in (2.0**-32, 1.0))
BINS = _HIGHEST - _LOWEST + 1

Counts = npt.NDArray[np.int64]
Differences = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Agreement:
    """How near the scores of some photos are to their reference.

    A label's decision is whether its score reaches its threshold; it is lost where only the reference reaches it,
    gained where only the engine does.

    Attributes:
        photos: how many were compared.
        largest: largest difference of a score; NaN where a score is NaN.
        mean: mean difference of a score.
        largest_of_label: float64 [L].
        given: photos that the reference gives each label to, int64 [L].
        lost, gained: decisions that differ, int64 [L] each.
        top_k: how many best labels of a photo are compared as a set.
        shared_top: labels that are in both sets, over all photos.
        same_top: photos whose two sets are the same.
        histogram: differences by size, int64 [BINS].
    """

    photos: int
    largest: float
    mean: float
    largest_of_label: Differences
    given: Counts
    lost: Counts
    gained: Counts
    top_k: int
    shared_top: int
    same_top: int
    histogram: Counts

    @property
    def labels(self) -> int:
        """L, the scores of a photo."""
        return len(self.given)

    @property
    def percentile(self) -> float:
        """The difference that 99.9 % of all differences do not exceed, at most 1/64 too high and never too low."""
        rank = -(-self.photos * self.labels * PER_MILLE // 1000)
        place = int(np.searchsorted(np.cumsum(self.histogram), rank))
        if math.isnan(self.largest) or place == BINS - 1:
            return self.largest
        return min(self.largest, _upper_edge(place))

    @property
    def flips(self) -> Counts:
        """Decisions that differ, int64 [L]."""
        return self.lost + self.gained

    @property
    def flipped(self) -> int:
        """Decisions that differ, over all labels."""
        return int(self.flips.sum())

    @property
    def flip_rate(self) -> float:
        """The share of all decisions, photos times labels, that differ."""
        return self.flipped / (self.photos * self.labels)

    @property
    def top_agreement(self) -> float:
        """The share of the reference's best labels that are among the engine's best."""
        return self.shared_top / (self.photos * self.top_k)

    @property
    def same_top_rate(self) -> float:
        """The share of photos whose best labels are the same set."""
        return self.same_top / self.photos

    def worst_labels(self, count: int) -> list[int]:
        """Places of the labels that flip most, and of those the ones whose scores differ most, worst first."""
        worst = np.lexsort((-self.largest_of_label, -self.flips))
        return [int(place) for place in worst[:count]]

    def to_json(self) -> dict[str, Any]:
        """The numbers without those of each label; NaN, which JSON lacks, becomes None."""
        numbers = {
            "photos": self.photos,
            "labels": self.labels,
            "largest": self.largest,
            "mean": self.mean,
            "percentile_99_9": self.percentile,
            "flipped": self.flipped,
            "flip_rate": self.flip_rate,
            "top_k": self.top_k,
            "top_agreement": self.top_agreement,
            "same_top_rate": self.same_top_rate,
        }
        return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def compare(
    scores: Scores, reference: Scores, top_k: int = TOP_K, thresholds: npt.NDArray[np.floating] | None = None
) -> Agreement:
    """Compare scores with their reference.

    Args:
        scores: float [n, L], n ≥ 1.
        reference: float [n, L].
        top_k: how many best labels to compare as a set; all where there are fewer.
        thresholds: from which score each label holds, [L] as `decision_thresholds` gives; None takes 0.5 for all.

    Raises:
        FailureError: the shapes differ, or there is nothing to compare.
    """
    if scores.shape != reference.shape or scores.ndim != 2 or scores.size == 0:
        raise FailureError(f"scores {scores.shape} cannot be compared with {reference.shape}; expected [n, L] twice.")
    photos, labels = reference.shape
    differences = np.abs(scores.astype(np.float64) - reference)  # n, L
    thresholds = np.full(labels, DECISION, np.float32) if thresholds is None else thresholds
    holds, held = scores >= thresholds, reference >= thresholds
    top_k = min(top_k, labels)
    shared = (_top(scores, top_k) & _top(reference, top_k)).sum(axis=1)
    return Agreement(
        photos=photos,
        largest=float(differences.max()),
        mean=float(differences.mean()),
        largest_of_label=differences.max(axis=0),
        given=held.sum(axis=0),
        lost=(held & ~holds).sum(axis=0),
        gained=(holds & ~held).sum(axis=0),
        top_k=top_k,
        shared_top=int(shared.sum()),
        same_top=int((shared == top_k).sum()),
        histogram=_histogram(differences),
    )


def combined(parts: Iterable[Agreement]) -> Agreement:
    """The agreement of several batches as one; parts are taken one after the other and not kept.

    Raises:
        FailureError: there are no parts, or they are of different label sets or `top_k`.
    """
    whole: Agreement | None = None
    for part in parts:
        whole = part if whole is None else _sum(whole, part)
    if whole is None:
        raise FailureError("there are no scores to compare.")
    return whole


def decision_thresholds(manifest: Manifest) -> npt.NDArray[np.float32]:
    """The score from which each label counts as given: its own threshold, 0.5 where it has none; float32 [L]."""
    own = [DECISION if label.threshold is None else label.threshold for label in manifest.labels]
    return np.array(own, dtype=np.float32)


def _sum(a: Agreement, b: Agreement) -> Agreement:
    if (a.labels, a.top_k) != (b.labels, b.top_k):
        raise FailureError(
            f"an agreement over {a.labels} labels and the best {a.top_k} cannot be added to one over {b.labels} and "
            f"the best {b.top_k}."
        )
    photos = a.photos + b.photos
    return Agreement(
        photos=photos,
        largest=float(np.maximum(a.largest, b.largest)),  # NaN stays NaN
        mean=(a.mean * a.photos + b.mean * b.photos) / photos,
        largest_of_label=np.maximum(a.largest_of_label, b.largest_of_label),
        given=a.given + b.given,
        lost=a.lost + b.lost,
        gained=a.gained + b.gained,
        top_k=a.top_k,
        shared_top=a.shared_top + b.shared_top,
        same_top=a.same_top + b.same_top,
        histogram=a.histogram + b.histogram,
    )


def _top(scores: Scores, top_k: int) -> npt.NDArray[np.bool_]:
    """Which labels are the best `top_k` of each photo, ties in the order of the labels; bool [n, L]."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(chosen, best, True, axis=1)
    return chosen


def _histogram(differences: Differences) -> Counts:
    """Count differences, none negative, by the upper bits of their float32; NaN counts with the largest."""
    bins = differences.astype(np.float32).view(np.uint32).ravel().astype(np.int64) >> _SHIFT
    return np.bincount(np.clip(bins - _LOWEST, 0, BINS - 1), minlength=BINS).astype(np.int64)


def _upper_edge(place: int) -> float:
    """The value that everything counted in a bin lies below."""
    return float(np.uint32((place + 1 + _LOWEST) << _SHIFT).view(np.float32))
