"""Agreement of an engine's scores with their reference: differences, flipped decisions, top-k labels.

Agreements of batches are summed, so that any number of photos is compared in the memory of one batch:

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

DECISION = 0.5  # threshold of a label for which the manifest has none
TOP_K = 3
PER_MILLE = 999  # of the percentile, as an integer: 99.9 / 100 is not exactly 0.999

# Differences are binned by the upper bits of a float32: the exponent and 6 bits of fraction, so that a bin is 1/64 of
# its value wide whether differences are 1e-7 or 0.1. All below 2**-32 share the first bin, all from 1 up the last.
FRACTION_BITS = 6
_SHIFT = 23 - FRACTION_BITS
_LOWEST, _HIGHEST = (int(np.float32(edge).view(np.uint32)) >> _SHIFT for edge in (2.0**-32, 1.0))
BINS = _HIGHEST - _LOWEST + 1

Counts = npt.NDArray[np.int64]
Differences = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Agreement:
    """Agreement of the scores of some photos with their reference.

    A label's decision is positive where its score reaches its threshold. It is lost where only the reference is
    positive, gained where only the engine is.

    Attributes:
        photos: number of photos compared.
        largest: largest difference of a score; NaN where a score is NaN.
        mean: mean difference of a score.
        largest_of_label: float64 [L].
        reference_positive: photos for which the reference predicts each label, int64 [L].
        lost, gained: decisions that differ, int64 [L] each.
        top_k: number of highest-scoring labels of a photo that are compared as a set.
        shared_top: labels in both sets, over all photos.
        same_top: photos whose two sets are equal.
        histogram: number of differences by size, int64 [BINS].
    """

    photos: int
    largest: float
    mean: float
    largest_of_label: Differences
    reference_positive: Counts
    lost: Counts
    gained: Counts
    top_k: int
    shared_top: int
    same_top: int
    histogram: Counts

    @property
    def labels(self) -> int:
        """L, the number of scores of a photo."""
        return len(self.reference_positive)

    @property
    def percentile(self) -> float:
        """The 99.9th percentile of the differences, at most 1/64 too high and never too low."""
        rank = -(-self.photos * self.labels * PER_MILLE // 1000)
        index = int(np.searchsorted(np.cumsum(self.histogram), rank))
        if math.isnan(self.largest) or index == BINS - 1:
            return self.largest
        upper_edge = np.uint32((index + 1 + _LOWEST) << _SHIFT).view(np.float32)  # exclusive
        return min(self.largest, float(upper_edge))

    @property
    def flips(self) -> Counts:
        """Decisions that differ, int64 [L]."""
        return self.lost + self.gained

    @property
    def flipped(self) -> int:
        """Number of decisions that differ, over all labels."""
        return int(self.flips.sum())

    @property
    def flip_rate(self) -> float:
        """Fraction of all decisions, photos times labels, that differ."""
        return self.flipped / (self.photos * self.labels)

    @property
    def top_agreement(self) -> float:
        """Fraction of the reference's top-k labels that are among the engine's top k."""
        return self.shared_top / (self.photos * self.top_k)

    @property
    def same_top_rate(self) -> float:
        """Fraction of photos whose top-k labels are the same set."""
        return self.same_top / self.photos

    def worst_labels(self, count: int) -> list[int]:
        """Indices of the labels with most flipped decisions, ties by largest difference, worst first."""
        return [int(index) for index in np.lexsort((-self.largest_of_label, -self.flips))[:count]]

    def to_json(self) -> dict[str, Any]:
        """The numbers over all labels; NaN, which JSON lacks, becomes None."""
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
        top_k: number of highest-scoring labels to compare as a set; all where there are fewer.
        thresholds: of each label, [L] as `decision_thresholds` returns; None takes 0.5 for all.

    Raises:
        FailureError: the shapes differ, or are empty.
    """
    if scores.shape != reference.shape or scores.ndim != 2 or scores.size == 0:
        raise FailureError(f"scores {scores.shape} cannot be compared with {reference.shape}; expected [n, L] twice.")
    photos, labels = reference.shape
    differences = np.abs(scores.astype(np.float64) - reference)  # n, L
    thresholds = np.full(labels, DECISION, np.float32) if thresholds is None else thresholds
    positive, reference_positive = scores >= thresholds, reference >= thresholds  # n, L
    top_k = min(top_k, labels)
    shared = (_top(scores, top_k) & _top(reference, top_k)).sum(axis=1)
    return Agreement(
        photos=photos,
        largest=float(differences.max()),
        mean=float(differences.mean()),
        largest_of_label=differences.max(axis=0),
        reference_positive=reference_positive.sum(axis=0),
        lost=(reference_positive & ~positive).sum(axis=0),
        gained=(positive & ~reference_positive).sum(axis=0),
        top_k=top_k,
        shared_top=int(shared.sum()),
        same_top=int((shared == top_k).sum()),
        histogram=_histogram(differences),
    )


def combined(parts: Iterable[Agreement]) -> Agreement:
    """The agreement over several batches; parts are consumed one at a time.

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
    """The threshold of each label, 0.5 where the manifest has none; float32 [L]."""
    return np.array(
        [DECISION if label.threshold is None else label.threshold for label in manifest.labels], dtype=np.float32
    )


def _sum(a: Agreement, b: Agreement) -> Agreement:
    if (a.labels, a.top_k) != (b.labels, b.top_k):
        raise FailureError(
            f"an agreement over {a.labels} labels and the top {a.top_k} cannot be added to one over {b.labels} and the "
            f"top {b.top_k}."
        )
    photos = a.photos + b.photos
    return Agreement(
        photos=photos,
        largest=float(np.maximum(a.largest, b.largest)),  # NaN stays NaN
        mean=(a.mean * a.photos + b.mean * b.photos) / photos,
        largest_of_label=np.maximum(a.largest_of_label, b.largest_of_label),
        reference_positive=a.reference_positive + b.reference_positive,
        lost=a.lost + b.lost,
        gained=a.gained + b.gained,
        top_k=a.top_k,
        shared_top=a.shared_top + b.shared_top,
        same_top=a.same_top + b.same_top,
        histogram=a.histogram + b.histogram,
    )


def _top(scores: Scores, top_k: int) -> npt.NDArray[np.bool_]:
    """Mask of the `top_k` highest-scoring labels of each photo, ties in the order of the labels; bool [n, L]."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(chosen, best, True, axis=1)
    return chosen


def _histogram(differences: Differences) -> Counts:
    """Histogram of non-negative differences by the upper bits of their float32; NaN falls into the last bin."""
    bins = differences.astype(np.float32).view(np.uint32).ravel().astype(np.int64) >> _SHIFT
    return np.bincount(np.clip(bins - _LOWEST, 0, BINS - 1), minlength=BINS).astype(np.int64)
