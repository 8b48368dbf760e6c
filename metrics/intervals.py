"""How far a measure would move had other photos been drawn: the bootstrap over tested photos.

A resampling draws n photos with replacement. All measures of it follow from how often each photo was drawn, so scores
are ranked once, not once for every resampling.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from mlzsl.metrics.average_precision import Bools, Floats, average_precisions, check_scores
from mlzsl.metrics.summary import PARTS, WAYS
from mlzsl.metrics.top_k import DEPTHS, expected_hits

CONFIDENCE = 0.95
DRAWN_AT_ONCE = 1 << 21  # photos of all resamplings that are in memory together

Scores = npt.NDArray[np.floating]
Counts = npt.NDArray[np.int64]


def resampled(scores: Scores, targets: Bools, seen: Bools, resamples: int, seed: int) -> dict[str, Floats]:
    """Every one of `measures.MEASURES` on each resampling of the photos, float64 [resamples]; NaN where undefined.

    The same seed draws the same photos, whatever the scores, so what two systems reach can be compared draw by draw.

    Args:
        scores: of every photo and label, any float dtype [n, L].
        targets: which labels each photo really has, bool [n, L].
        seen: which labels training saw, bool [L].
        resamples: how often to draw, at least 1.
        seed: of the draws.

    Raises:
        FailureError: shapes or dtypes that do not fit each other, or a score that is NaN.
    """
    check_scores(scores, targets, seen)
    parts = [measures_of_draws(scores, targets, seen, draws) for draws in _draws(len(scores), resamples, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def interval(level: float, values: Floats) -> tuple[float, float]:
    """The 95 % interval around a level: as far below and above it as resampled values lie from their own mean.

    Resampled values themselves lie too high: a photo drawn twice ties with itself, and average precision likes ties of
    positives. Only their spread is taken.

    Args:
        level: on the photos as they are.
        values: on each resampling, float64 [R]; NaN does not count.

    Returns:
        (low, high) in [0, 1]; NaN twice if there are no values.
    """
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return np.nan, np.nan
    low, high = level - values.mean() + np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return max(float(low), 0.0), min(float(high), 1.0)


def measures_of_draws(scores: Scores, targets: Bools, seen: Bools, draws: Counts) -> dict[str, Floats]:
    """Every measure when photo i is there `draws[r, i]` times.

    Args:
        scores: float [n, L], no NaN.
        targets: bool [n, L].
        seen: bool [L].
        draws: int64 [R, n].

    Returns:
        by measure, float64 [R].
    """
    values: dict[str, Floats] = {}
    for part, chosen in zip(PARTS, (seen, ~seen), strict=True):
        values[f"{part} mAP"] = _class_mean(scores[:, chosen], targets[:, chosen], draws)
        values[f"{part} miAP"] = _image_mean(scores[:, chosen], targets[:, chosen], draws)
    for way, chosen in zip(WAYS, (~seen, np.ones_like(seen)), strict=True):
        for k in DEPTHS:
            shares = _shares(scores[:, chosen], targets[:, chosen], draws, k)
            values |= {f"{way} {name}@{k}": share for name, share in shares.items()}
    return values


def _draws(photos: int, resamples: int, seed: int) -> Iterator[Counts]:
    generator = np.random.default_rng(seed)
    at_once = max(DRAWN_AT_ONCE // photos, 1)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        yield np.stack([np.bincount(generator.integers(photos, size=photos), minlength=photos) for _ in range(rows)])


def _class_mean(scores: Scores, targets: Bools, draws: Counts) -> Floats:
    """The mean over classes that have a positive photo in the draw."""
    sums, classes = np.zeros(len(draws)), np.zeros(len(draws))
    for label in np.flatnonzero(targets.any(axis=0)):
        precisions = _average_precision(scores[:, label], targets[:, label], draws)
        there = ~np.isnan(precisions)
        sums[there] += precisions[there]
        classes += there
    return _divided(sums, classes)


def _average_precision(scores: Scores, targets: Bools, draws: Counts) -> Floats:
    """Σ over positive photos of the precision at their scores; scores [n], targets [n], draws [R, n] -> [R]."""
    order = np.argsort(-scores)
    ranked, positive = scores[order], np.flatnonzero(targets[order])
    group_ends = np.searchsorted(-ranked, -ranked[positive], side="right") - 1  # the last rank of the same score
    drawn = draws[:, order]
    above = np.cumsum(drawn, axis=1)[:, group_ends]
    drawn_positives = drawn[:, positive]
    # Ranks of positives at or above the end of a group: all positives before its end.
    hits = np.cumsum(drawn_positives, axis=1)[:, np.searchsorted(positive, group_ends, side="right") - 1]
    return _divided((drawn_positives * _divided(hits, above, empty=0.0)).sum(axis=1), drawn_positives.sum(axis=1))


def _image_mean(scores: Scores, targets: Bools, draws: Counts) -> Floats:
    precisions = average_precisions(scores, targets)
    counted = ~np.isnan(precisions)
    return _divided(draws[:, counted] @ precisions[counted], draws[:, counted].sum(axis=1))


def _shares(scores: Scores, targets: Bools, draws: Counts, k: int) -> dict[str, Floats]:
    """Precision, recall and F1 of the k best labels of each photo, as `top_labels` defines them."""
    counted = targets.any(axis=1)
    if not counted.any():
        nothing = np.full(len(draws), np.nan)
        return {"precision": nothing, "recall": nothing, "F1": nothing}
    draws, scores, targets = draws[:, counted], scores[counted], targets[counted]
    taken = min(k, scores.shape[1])
    hits = draws @ expected_hits(scores, targets, taken)
    precision = _divided(hits, taken * draws.sum(axis=1))
    recall = _divided(hits, draws @ targets.sum(axis=1))
    F1 = np.where(hits > 0, _divided(2 * precision * recall, precision + recall), 0.0 * precision)
    return {"precision": precision, "recall": recall, "F1": F1}


def _divided(above: npt.NDArray[Any], below: npt.NDArray[Any], empty: float = np.nan) -> Floats:
    quotients = np.full(np.broadcast_shapes(above.shape, below.shape), empty)
    return np.divide(above, below, out=quotients, where=below > 0)
