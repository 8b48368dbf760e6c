"""Predicts thresholds of labels without photos from those of labels with photos.

A threshold is expressed on a scale that labels share (`SCALES`), averaged there over the labels with known thresholds,
weighted by WordNet similarity, and converted back with the label's own scores. Scale and weights are chosen by leaving
each known label out in turn; how good predictions are is measured on labels left out of that choice as well.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

SHARPNESS = (0.0, 4.0, 8.0, 16.0)  # β of the weight exp(β WUP); 0 is the plain mean, without the class graph
COVERAGE = 0.8  # of the intervals
MAX_LEAVE_ONE_OUT = 200  # labels; with more, cross-validation has FOLDS folds
FOLDS = 10
EPSILON = 1e-7  # scores are clipped this far from 0 and 1, where the logit is infinite
HIGH, MEDIAN = 0.98, 0.5  # quantiles: their distance is how far a label's scores spread upwards


@dataclass(frozen=True)
class KnownLabels:
    """Labels whose thresholds were chosen on photos.

    Attributes:
        scores: float32 [n, m], of all n photos on these m labels.
        thresholds: float64 [m].
        similarities: float64 [m, m], WUP of every pair.
    """

    scores: Scores
    thresholds: Floats
    similarities: Floats


@dataclass(frozen=True)
class Method:
    """How thresholds are predicted: the scale, and β, the sharpness of the weights exp(β WUP)."""

    scale: str
    sharpness: float

    def __str__(self) -> str:
        return f"{self.scale}, " + (f"weights exp({self.sharpness:g} WUP)" if self.sharpness else "plain mean")


@dataclass(frozen=True)
class PredictedThresholds:
    """Thresholds of k labels, each with the interval that holds a fraction COVERAGE of them; float64 [k] each."""

    thresholds: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class CrossValidation:
    """How well thresholds are predicted, measured by leaving known labels out.

    Attributes:
        method: the method with the highest overlap.
        overlaps: of every method, the mean overlap over labels left out one at a time.
        left_out: a prediction for every known label, with the method that the other labels alone would choose.
        overlap: the mean overlap of `left_out`.
        coverage: fraction of the labels whose own threshold lies in the predicted interval, by the number of photos
            that reach it.
    """

    method: Method
    overlaps: dict[Method, float]
    left_out: PredictedThresholds
    overlap: float
    coverage: float


def predict(known: KnownLabels, scores: Scores, similarities: Floats, method: Method) -> PredictedThresholds:
    """Predict the thresholds of labels without photos.

    Args:
        known: at least two labels to learn from.
        scores: float32 [n, k], of the same photos on the labels to predict.
        similarities: float64 [k, m], WUP of these with the known labels.
        method: scale and weights.
    """
    scale = SCALES[method.scale]
    values = scale.encode(known.thresholds, known.scores)
    weights = np.exp(method.sharpness * similarities)
    expected = weights @ values / weights.sum(axis=1)
    errors = values - _leave_one_out(known, values, method.sharpness)
    tail = (1 - COVERAGE) / 2
    low = scale.decode(expected + np.quantile(errors, tail, method="lower"), scores)
    high = scale.decode(expected + np.quantile(errors, 1 - tail, method="higher"), scores)
    return PredictedThresholds(scale.decode(expected, scores), np.minimum(low, high), np.maximum(low, high))


def cross_validate(known: KnownLabels) -> CrossValidation:
    """Choose the method, and measure how well it predicts labels that were left out of that choice.

    A label left out is predicted from the thresholds of the others and its own scores, as a label without photos is.
    The network was trained with it, though, as it was not with an unseen label.
    """
    overlaps = _overlaps_of_methods(known)
    found = np.empty((3, len(known.thresholds)))
    for out, rest in _folds(len(known.thresholds)):
        others = KnownLabels(known.scores[:, rest], known.thresholds[rest], known.similarities[np.ix_(rest, rest)])
        method = _best(_overlaps_of_methods(others))
        part = predict(others, known.scores[:, out], known.similarities[np.ix_(out, rest)], method)
        found[:, out] = part.thresholds, part.low, part.high
    left_out = PredictedThresholds(*found)
    fewest, own, most = (_predicted_positive(known.scores, t) for t in (left_out.high, known.thresholds, left_out.low))
    return CrossValidation(
        method=_best(overlaps),
        overlaps=overlaps,
        left_out=left_out,
        overlap=float(overlap(known.scores, left_out.thresholds, known.thresholds).mean()),
        coverage=float(((fewest <= own) & (own <= most)).mean()),
    )


def overlap(scores: Scores, a: Floats, b: Floats) -> Floats:
    """Agreement of two thresholds of each label: photos that reach both, of those that reach either; [m].

    One of the two sets contains the other, so this is the smaller count over the larger; 1 if both are empty.
    """
    first, second = _predicted_positive(scores, a), _predicted_positive(scores, b)
    larger = np.maximum(first, second)
    return np.where(larger > 0, np.minimum(first, second) / np.maximum(larger, 1), 1.0)


def _predicted_positive(scores: Scores, thresholds: Floats) -> Indices:
    """The number of photos that reach each label's threshold; [m]."""
    return np.count_nonzero(scores >= thresholds.astype(np.float32), axis=0)


def _best(overlaps: dict[Method, float]) -> Method:
    return max(overlaps, key=overlaps.__getitem__)


def _overlaps_of_methods(known: KnownLabels) -> dict[Method, float]:
    """The mean overlap of every method, each label predicted from all others."""
    found = {}
    for name, scale in SCALES.items():
        values = scale.encode(known.thresholds, known.scores)
        for sharpness in SHARPNESS:
            expected = scale.decode(_leave_one_out(known, values, sharpness), known.scores)
            found[Method(name, sharpness)] = float(overlap(known.scores, expected, known.thresholds).mean())
    return found


def _leave_one_out(known: KnownLabels, values: Floats, sharpness: float) -> Floats:
    """Each known label's value, predicted from all others; [m]."""
    weights = np.exp(sharpness * known.similarities)
    np.fill_diagonal(weights, 0)
    return weights @ values / weights.sum(axis=1)


def _folds(count: int) -> Iterator[tuple[Indices, Indices]]:
    """The labels that are left out, and the others."""
    fold = np.arange(count) % (count if count <= MAX_LEAVE_ONE_OUT else FOLDS)
    for number in range(fold.max() + 1):
        yield np.flatnonzero(fold == number), np.flatnonzero(fold != number)


# ---- scales ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """Converts thresholds [m] to values [m] that labels share, and back, with the labels' scores float32 [n, m]."""

    encode: Callable[[Floats, Scores], Floats]
    decode: Callable[[Floats, Scores], Floats]


def _logit(values: npt.ArrayLike) -> Floats:
    inside = np.clip(np.asarray(values, dtype=np.float64), EPSILON, 1 - EPSILON)
    return np.log(inside) - np.log1p(-inside)


def _sigmoid(values: Floats) -> Floats:
    return 1 / (1 + np.exp(-values))


def _median_and_spread(scores: Scores) -> tuple[Floats, Floats]:
    """Of the logits of each label's scores: the median, and the distance of the HIGH quantile above it; [m] each."""
    median, high = np.quantile(_logit(scores), [MEDIAN, HIGH], axis=0)
    return median, np.maximum(high - median, EPSILON)


def _normalize(thresholds: Floats, scores: Scores) -> Floats:
    median, spread = _median_and_spread(scores)
    return (_logit(thresholds) - median) / spread


def _denormalize(values: Floats, scores: Scores) -> Floats:
    median, spread = _median_and_spread(scores)
    return _sigmoid(median + values * spread)


def _positive_rate(thresholds: Floats, scores: Scores) -> Floats:
    """The logit of the fraction of photos predicted positive, half a photo away from 0 and 1."""
    return _logit((_predicted_positive(scores, thresholds) + 0.5) / (len(scores) + 1))


def _threshold_of_rate(values: Floats, scores: Scores) -> Floats:
    """The midpoint between the two scores that the rate separates."""
    predicted = _sigmoid(values) * (len(scores) + 1) - 0.5
    below = np.clip(1 - predicted / len(scores), 0, 1)
    quantiles = [np.quantile(column, at, method="hazen") for column, at in zip(scores.T, below, strict=True)]
    return np.array(quantiles, dtype=np.float64)


SCALES = {
    "logit": Scale(lambda thresholds, _: _logit(thresholds), lambda values, _: _sigmoid(values)),
    "normalized logit": Scale(_normalize, _denormalize),
    "positive rate": Scale(_positive_rate, _threshold_of_rate),
}
