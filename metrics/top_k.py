"""Precision, recall and F1 of the k best labels of each image, which work after the paper reports.

*Conventional* zero-shot ranks the unseen labels alone, *generalized* zero-shot ranks seen and unseen labels together.
Hits are counted over all images and divided once (micro-averages).
"""

import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from mlzsl.metrics.average_precision import Bools, Floats, Scores, check_scores, ratio

DEFAULT_KS = (3, 5)


@dataclass(frozen=True)
class TopKMetrics:
    """Precision and recall of the k best labels of an image, in [0, 1]; images without a true label do not count.

    Attributes:
        k: how many labels are predicted for an image; all, where there are fewer.
        precision: the share of predicted labels that are true.
        recall: the share of true labels that are predicted.
        F1: their harmonic mean, 0 where both are 0.
        images: how many images count; without any, precision, recall and F1 are NaN.
    """

    k: int
    precision: float
    recall: float
    F1: float
    images: int

    def to_json(self) -> dict[str, float | int | None]:
        """The fields by name; NaN, which JSON lacks, becomes None."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


def evaluate_top_k(
    scores: Scores, targets: Bools, seen: Bools, ks: tuple[int, ...] = DEFAULT_KS
) -> dict[str, list[TopKMetrics]]:
    """Measure the k best labels of each image for every k in `ks`.

    Args:
        scores: of every image and label, any float dtype [n, L]; only their order counts.
        targets: the true labels of each image, bool [n, L].
        seen: the labels that training saw, bool [L].
        ks: each k, at least 1.

    Returns:
        `{"conventional": of unseen labels, "generalized": of all labels}`, in the order of `ks`.

    Raises:
        FailureError: shapes or dtypes do not match, or a score is NaN.
    """
    check_scores(scores, targets, seen)
    return {
        "conventional": [_metrics(scores[:, ~seen], targets[:, ~seen], k) for k in ks],
        "generalized": [_metrics(scores, targets, k) for k in ks],
    }


def resampled_top_k(scores: Scores, targets: Bools, counts: npt.NDArray[np.int64], k: int) -> dict[str, Floats]:
    """Precision, recall and F1 of the k best labels when image i is present `counts[r, i]` times.

    Args:
        scores: float [n, L], no NaN.
        targets: bool [n, L].
        counts: int64 [R, n].
        k: at least 1.

    Returns:
        by metric, float64 [R]; NaN where no image counts.
    """
    counted = targets.any(axis=1)
    if not counted.any():
        return dict.fromkeys(("precision", "recall", "F1"), np.full(len(counts), np.nan))
    counts, scores, targets = counts[:, counted], scores[counted], targets[counted]
    k = min(k, scores.shape[1])
    hits = counts @ expected_hits(scores, targets, k)
    precision = ratio(hits, k * counts.sum(axis=1))
    recall = ratio(hits, counts @ targets.sum(axis=1))
    F1 = np.where(hits > 0, ratio(2 * precision * recall, precision + recall), 0.0 * precision)
    return {"precision": precision, "recall": recall, "F1": F1}


def expected_hits(scores: Scores, targets: Bools, k: int) -> Floats:
    """How many of the k best labels of each image are true; float64 [n].

    Where labels tie for the last ranks, the mean over all ways to break the tie, so that no result depends on the
    order of labels.

    Args:
        scores: float [n, L], no NaN.
        targets: bool [n, L].
        k: 1 to L.
    """
    last = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]  # the k-th best score of each image
    above, tied = scores > last, scores == last
    ranks_left = k - above.sum(axis=1)
    hits: Floats = (above & targets).sum(axis=1) + ranks_left * (tied & targets).sum(axis=1) / tied.sum(axis=1)
    return hits


def _metrics(scores: Scores, targets: Bools, k: int) -> TopKMetrics:
    values = resampled_top_k(scores, targets, np.ones((1, len(scores)), np.int64), k)
    precision, recall, F1 = (float(value[0]) for value in values.values())
    return TopKMetrics(k, precision, recall, F1, images=int(targets.any(axis=1).sum()))
