"""mAP and miAP, the paper's evaluation (section 4.1), with the values that random scores are expected to reach.

Average precision is the area under the precision-recall steps. Items of equal score form one step, as in
scikit-learn's `average_precision_score`, so a result never depends on the order of photos or labels.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import FailureError

Scores = npt.NDArray[np.floating]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Metrics:
    """How well one group of labels (the seen or the unseen ones) is ranked; all values are in [0, 1].

    A class without a positive image, or an image without a positive label of the group, has no average precision: it
    is left out of the mean and counted. A mean over nothing is NaN.

    Attributes:
        mAP: mean over classes of the average precision with which the class's score ranks the images.
        miAP: mean over images of the average precision with which the image's scores rank the labels.
        classes: how many classes mAP is the mean of.
        images: how many images miAP is the mean of.
        classes_left_out: how many classes of the group no image has.
        images_left_out: how many images have no label of the group.
        chance_mAP: the exact expectation of mAP when every class ranks the images at random, without ties.
        chance_miAP: the exact expectation of miAP when every image ranks the labels at random, without ties.
    """

    mAP: float
    miAP: float
    classes: int
    images: int
    classes_left_out: int
    images_left_out: int
    chance_mAP: float
    chance_miAP: float

    def to_json(self) -> dict[str, float | int | None]:
        """The fields by name; NaN, which JSON lacks, becomes None."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


def evaluate(scores: Scores, targets: Bools, seen: Bools) -> dict[str, Metrics]:
    """Measure the seen and the unseen labels separately.

    Args:
        scores: of every image and label, any float dtype [n, L]; only their order counts.
        targets: the true labels of each image, bool [n, L].
        seen: the labels that training saw, bool [L].

    Returns:
        `{"seen": Metrics, "unseen": Metrics}`.

    Raises:
        FailureError: shapes or dtypes do not match, or a score is NaN.
    """
    check_scores(scores, targets, seen)
    return {
        "seen": _metrics(scores[:, seen], targets[:, seen]),
        "unseen": _metrics(scores[:, ~seen], targets[:, ~seen]),
    }


def average_precisions(scores: Scores, targets: Bools) -> Floats:
    """The average precision of each row's ranking; NaN for a row without positives.

    Σ_k (R_k - R_{k-1}) P_k over the distinct scores of a row from high to low, with recall R_k and precision P_k
    of all items that score at least the k-th.

    Args:
        scores: float [m, k], no NaN.
        targets: bool [m, k].

    Returns:
        float64 [m].
    """
    m, k = scores.shape
    if k == 0:
        return np.full(m, np.nan)
    order = np.argsort(-scores, axis=1)
    ranked_scores = np.take_along_axis(scores, order, axis=1)
    ranked_targets = np.take_along_axis(targets, order, axis=1)

    # The precision of every rank of a group of equal scores is that at the group's last rank.
    group_ends = np.full((m, k), k - 1)
    group_ends[:, :-1] = np.where(ranked_scores[:, :-1] != ranked_scores[:, 1:], np.arange(k - 1), k - 1)
    group_ends = np.minimum.accumulate(group_ends[:, ::-1], axis=1)[:, ::-1]

    hits = np.cumsum(ranked_targets, axis=1)
    precisions = np.take_along_axis(hits, group_ends, axis=1) / (group_ends + 1.0)
    return ratio((precisions * ranked_targets).sum(axis=1), hits[:, -1])


def expected_average_precisions(positives: npt.NDArray[np.integer], items: int) -> Floats:
    """The expectation of average precision over all orders of `items` items, of which `positives` are positive.

    A rank k holds a positive with probability P/n, and then (k-1)(P-1)/(n-1) positives are expected above it, so
    E[AP] = 1/n Σ_k (1 + (k-1)(P-1)/(n-1)) / k. That is more than P/n, the value of a ranking that ties all
    items, and much more where few items are ranked.

    Args:
        positives: P, int [m], at least 1 each.
        items: n, at least 1.

    Returns:
        float64 [m].
    """
    harmonic = (1.0 / np.arange(1, items + 1)).sum()
    share_above = (positives - 1.0) / max(items - 1, 1)
    return np.asarray((harmonic + share_above * (items - harmonic)) / items, dtype=np.float64)


def check_scores(scores: Scores, targets: Bools, seen: Bools) -> None:
    """Check that scores [n, L], targets [n, L] and seen [L] can be evaluated.

    Raises:
        FailureError: shapes or dtypes do not match, or a score is NaN.
    """
    if scores.ndim != 2 or targets.shape != scores.shape or seen.shape != scores.shape[1:]:
        raise FailureError(
            f"evaluation found scores {scores.shape}, targets {targets.shape} and seen {seen.shape}; "
            "expected [images, labels] twice and [labels]."
        )
    if not np.issubdtype(scores.dtype, np.floating) or targets.dtype != np.bool_ or seen.dtype != np.bool_:
        raise FailureError(
            f"evaluation found scores of dtype {scores.dtype}, targets of {targets.dtype} and seen of {seen.dtype}; "
            "expected floating point, bool and bool."
        )
    broken = np.isnan(scores).any(axis=1)
    if broken.any():
        raise FailureError(
            f"the scores of {broken.sum()} of {len(scores)} images hold NaN (first image {int(broken.argmax())}), "
            "which cannot be ranked; the model that made them is broken: train it again."
        )


def ratio(numerator: npt.NDArray[Any], denominator: npt.NDArray[Any], empty: float = np.nan) -> Floats:
    """numerator / denominator, broadcast; `empty` where the denominator is 0."""
    quotients = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), empty)
    return np.divide(numerator, denominator, out=quotients, where=denominator > 0)


def _metrics(scores: Scores, targets: Bools) -> Metrics:
    mAP, classes, chance_mAP = _mean_over_rows(np.ascontiguousarray(scores.T), np.ascontiguousarray(targets.T))
    miAP, images, chance_miAP = _mean_over_rows(scores, targets)
    return Metrics(
        mAP=mAP,
        miAP=miAP,
        classes=classes,
        images=images,
        classes_left_out=scores.shape[1] - classes,
        images_left_out=scores.shape[0] - images,
        chance_mAP=chance_mAP,
        chance_miAP=chance_miAP,
    )


def _mean_over_rows(scores: Scores, targets: Bools) -> tuple[float, int, float]:
    """The mean average precision over rows with positives, the number of those rows, and the mean by chance."""
    positives = targets.sum(axis=1)
    counted = positives > 0
    if not counted.any():
        return math.nan, 0, math.nan
    precisions = average_precisions(scores[counted], targets[counted])
    chances = expected_average_precisions(positives[counted], items=targets.shape[1])
    return float(precisions.mean()), int(counted.sum()), float(chances.mean())
