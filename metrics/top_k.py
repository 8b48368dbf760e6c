"""Precision, recall and F1 of the k best labels of each image, which the work after the paper reports.

*Conventional* zero-shot ranks the unseen labels alone, *generalized* zero-shot ranks seen and unseen ones together.
Hits are counted over all images and divided once (micro-averages).
"""

import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from mlzsl.metrics.average_precision import Bools, Floats, check_scores

DEPTHS = (3, 5)


@dataclass(frozen=True)
class TopLabels:
    """How right the k best labels of an image are; all levels lie in [0, 1]. Images without a label do not count.

    Attributes:
        k: how many labels are taken of an image; all, where there are fewer.
        precision: the share of what is taken that is right.
        recall: the share of what is right that is taken.
        F1: their harmonic mean, 0 where both are.
        images: how many images count. Without any, the levels are NaN.
    """

    k: int
    precision: float
    recall: float
    F1: float
    images: int

    def to_json(self) -> dict[str, float | int | None]:
        """The fields by name; NaN, which JSON lacks, becomes None."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


def evaluate_top(
    scores: npt.NDArray[np.floating], targets: Bools, seen: Bools, depths: tuple[int, ...] = DEPTHS
) -> dict[str, list[TopLabels]]:
    """Measure the k best labels of each image for every k in `depths`.

    Args:
        scores: of every image and label, any float dtype [n, L]; only their order counts.
        targets: which labels each image really has, bool [n, L].
        seen: which labels training saw, bool [L].
        depths: each k, at least 1.

    Returns:
        `{"conventional": of unseen labels, "generalized": of all labels}`, in the order of `depths`.

    Raises:
        FailureError: shapes or dtypes that do not fit each other, or a score that is NaN.
    """
    check_scores(scores, targets, seen)
    return {
        "conventional": [_top(scores[:, ~seen], targets[:, ~seen], k) for k in depths],
        "generalized": [_top(scores, targets, k) for k in depths],
    }


def _top(scores: npt.NDArray[np.floating], targets: Bools, k: int) -> TopLabels:
    counted = targets.any(axis=1)
    scores, targets = scores[counted], targets[counted]
    images, labels = scores.shape
    if images == 0:
        return TopLabels(k, math.nan, math.nan, math.nan, 0)
    taken = min(k, labels)
    hits = expected_hits(scores, targets, taken).sum()
    precision, recall = hits / (images * taken), hits / targets.sum()
    F1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return TopLabels(k, float(precision), float(recall), float(F1), images)


def expected_hits(scores: npt.NDArray[np.floating], targets: Bools, k: int) -> Floats:
    """How many of the k best labels of each image are right; float64 [n].

    Where labels tie for the last places, the mean over all ways to break the tie, so that no result depends on the
    order of labels.

    Args:
        scores: float [n, L], no NaN.
        targets: bool [n, L].
        k: 1 to L.
    """
    last = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]  # the k-th best score of each image
    above, level = scores > last, scores == last
    places_left = k - above.sum(axis=1)
    hits: Floats = (above & targets).sum(axis=1) + places_left * (level & targets).sum(axis=1) / level.sum(axis=1)
    return hits
