"""Bootstrap intervals: how far a metric would move had other photos been drawn for the test.

A resample draws n photos with replacement. All metrics of it follow from how often each photo was drawn, so scores
are ranked once, not once for every resample.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mlzsl.metrics.average_precision import Bools, Floats, Scores, average_precisions, check_scores, ratio
from mlzsl.metrics.top_k import DEFAULT_KS, resampled_top_k

CONFIDENCE = 0.95
MAX_COUNTS = 1 << 21  # of photos of all resamples that are in memory together

Counts = npt.NDArray[np.int64]


def bootstrap_metrics(scores: Scores, targets: Bools, seen: Bools, resamples: int, seed: int) -> dict[str, Floats]:
    """All metrics of `summary.METRIC_NAMES` on each resample of the photos, float64 [resamples]; NaN where undefined.

    The same seed draws the same photos, whatever the scores, so two models can be compared resample by resample.

    Args:
        scores: of every photo and label, any float dtype [n, L].
        targets: the true labels of each photo, bool [n, L].
        seen: the labels that training saw, bool [L].
        resamples: how often to draw, at least 1.
        seed: of the draws.

    Raises:
        FailureError: shapes or dtypes do not match, or a score is NaN.
    """
    check_scores(scores, targets, seen)
    parts = [resampled_metrics(scores, targets, seen, counts) for counts in _counts(len(scores), resamples, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def bootstrap_interval(value: float, resampled: Floats) -> tuple[float, float]:
    """The 95 % interval around a value: as far below and above it as resampled values lie from their own mean.

    Resampled values themselves are too high: a photo drawn twice ties with itself, and ties of positives raise average
    precision. Only their spread is used.

    Args:
        value: on the photos as they are.
        resampled: on each resample, float64 [R]; NaN does not count.

    Returns:
        (low, high) in [0, 1]; NaN twice if there are no values.
    """
    resampled = resampled[~np.isnan(resampled)]
    if len(resampled) == 0:
        return np.nan, np.nan
    low, high = value - resampled.mean() + np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return max(float(low), 0.0), min(float(high), 1.0)


def resampled_metrics(scores: Scores, targets: Bools, seen: Bools, counts: Counts) -> dict[str, Floats]:
    """All metrics when photo i is present `counts[r, i]` times.

    Args:
        scores: float [n, L], no NaN.
        targets: bool [n, L].
        seen: bool [L].
        counts: int64 [R, n].

    Returns:
        by metric, float64 [R].
    """
    values: dict[str, Floats] = {}
    for group, chosen in (("seen", seen), ("unseen", ~seen)):
        values[f"{group} mAP"] = _mean_over_classes(scores[:, chosen], targets[:, chosen], counts)
        values[f"{group} miAP"] = _mean_over_images(scores[:, chosen], targets[:, chosen], counts)
    for protocol, chosen in (("conventional", ~seen), ("generalized", np.ones_like(seen))):
        for k in DEFAULT_KS:
            metrics = resampled_top_k(scores[:, chosen], targets[:, chosen], counts, k)
            values |= {f"{protocol} {name}@{k}": metric for name, metric in metrics.items()}
    return values


def _counts(photos: int, resamples: int, seed: int) -> Iterator[Counts]:
    generator = np.random.default_rng(seed)
    at_once = max(MAX_COUNTS // photos, 1)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        yield np.stack([np.bincount(generator.integers(photos, size=photos), minlength=photos) for _ in range(rows)])


def _mean_over_classes(scores: Scores, targets: Bools, counts: Counts) -> Floats:
    """mAP: the mean over classes that have a positive photo in the resample."""
    sums, classes = np.zeros(len(counts)), np.zeros(len(counts))
    for label in np.flatnonzero(targets.any(axis=0)):
        precisions = _average_precision(scores[:, label], targets[:, label], counts)
        sums += np.nan_to_num(precisions)
        classes += ~np.isnan(precisions)
    return ratio(sums, classes)


def _average_precision(scores: Scores, targets: Bools, counts: Counts) -> Floats:
    """Σ over positive photos of the precision at their scores; scores [n], targets [n], counts [R, n] -> [R]."""
    order = np.argsort(-scores)
    ranked, positive = scores[order], np.flatnonzero(targets[order])
    group_ends = np.searchsorted(-ranked, -ranked[positive], side="right") - 1  # the last rank of the same score
    counts = counts[:, order]
    above = np.cumsum(counts, axis=1)[:, group_ends]
    positives = counts[:, positive]
    # Ranks of positives at or above the end of a group: all positives before its end.
    hits = np.cumsum(positives, axis=1)[:, np.searchsorted(positive, group_ends, side="right") - 1]
    return ratio((positives * ratio(hits, above, empty=0.0)).sum(axis=1), positives.sum(axis=1))


def _mean_over_images(scores: Scores, targets: Bools, counts: Counts) -> Floats:
    precisions = average_precisions(scores, targets)
    counted = ~np.isnan(precisions)
    return ratio(counts[:, counted] @ precisions[counted], counts[:, counted].sum(axis=1))
