"""Thresholds of labels that have no photos, predicted from those of labels that have some.

A threshold is first said in a language that labels share (its `SPACES`), there averaged over the labels whose own
threshold is known, those near in WordNet weighing more, and then said in the label's own scores again. Which language
and how sharp the weights is decided by leaving each known label out in turn; how far the prediction can be trusted by
leaving labels out of that decision as well.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float32]

SHARPNESS = (0.0, 4.0, 8.0, 16.0)  # of the weight exp(sharpness * WUP); 0 is the plain mean, without the graph
COVERAGE = 0.8  # of the intervals
MOST_FOLDS_OF_ONE = 200  # labels; beyond, labels are left out in tenths
TENTHS = 10
EPSILON = 1e-7  # scores are kept this far from 0 and 1, where the logit has no end
HIGH, MIDDLE = 0.98, 0.5  # quantiles that tell how far a label's scores spread upwards


@dataclass(frozen=True)
class Known:
    """Labels whose thresholds were chosen on photos.

    Attributes:
        scores: float32 [n, m], what all n photos score on these m labels.
        thresholds: float64 [m].
        similarities: float64 [m, m], WUP of every pair.
    """

    scores: Scores
    thresholds: Floats
    similarities: Floats

    def take(self, places: npt.NDArray[np.intp]) -> "Known":
        """Some of the labels."""
        return Known(self.scores[:, places], self.thresholds[places], self.similarities[np.ix_(places, places)])


@dataclass(frozen=True)
class Method:
    """A way to predict: the language of the thresholds, and how much more near labels weigh."""

    space: str
    sharpness: float

    def __str__(self) -> str:
        return f"{self.space}, " + (f"weights exp({self.sharpness:g} WUP)" if self.sharpness else "plain mean")


@dataclass(frozen=True)
class Predicted:
    """Thresholds of k labels, each with the interval in which COVERAGE of such predictions hold; float64 [k] each."""

    thresholds: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Assessment:
    """How well thresholds are predicted, found by leaving known labels out.

    Attributes:
        method: the one that is used.
        overlaps: of every method, the mean overlap over labels left out one at a time.
        left_out: predictions of every known label, by whatever method the other labels alone would choose.
        overlap: the mean overlap of those.
        covered: the share of the labels whose own threshold gives them to as many photos as one in the interval does.
    """

    method: Method
    overlaps: dict[Method, float]
    left_out: Predicted
    overlap: float
    covered: float


def predict(known: Known, scores: Scores, similarities: Floats, method: Method) -> Predicted:
    """Predict the thresholds of labels without photos of their own.

    Args:
        known: the labels to learn from, at least two.
        scores: float32 [n, k], what the same photos score on the labels that have no threshold.
        similarities: float64 [k, m], WUP of these with the known labels.
        method: the language and the weights.
    """
    space = SPACES[method.space]
    values = space.of_thresholds(known.thresholds, known.scores)
    weights = np.exp(method.sharpness * similarities)
    expected = weights @ values / weights.sum(axis=1)
    errors = values - _left_out_means(known, values, method.sharpness)
    tail = (1 - COVERAGE) / 2
    low = expected + np.quantile(errors, tail, method="lower")
    high = expected + np.quantile(errors, 1 - tail, method="higher")
    ends = [space.to_thresholds(end, scores) for end in (low, high)]
    return Predicted(space.to_thresholds(expected, scores), np.minimum(*ends), np.maximum(*ends))


def assess(known: Known) -> Assessment:
    """Choose the method, and find out how well it predicts labels that had no part in that choice.

    A label left out is predicted from the thresholds of the others and its own scores, as a label without photos is.
    Its scores still come from a network that was trained with it, which one of an unseen label's do not.
    """
    overlaps = _overlaps_of_methods(known)
    method = max(overlaps, key=overlaps.__getitem__)
    count = len(known.thresholds)
    found = np.empty((3, count))
    for out, rest in _folds(count):
        others = known.take(rest)
        inner = _overlaps_of_methods(others)
        part = predict(
            others, known.scores[:, out], known.similarities[np.ix_(out, rest)], max(inner, key=inner.__getitem__)
        )
        found[:, out] = part.thresholds, part.low, part.high
    left_out = Predicted(*found)
    fewest, own, most = (_given(known.scores, ends) for ends in (left_out.high, known.thresholds, left_out.low))
    inside = (fewest <= own) & (own <= most)
    return Assessment(
        method, overlaps, left_out, float(overlap(known.scores, left_out.thresholds, known.thresholds).mean()),
        float(inside.mean()),
    )  # fmt: skip


def overlap(scores: Scores, a: Floats, b: Floats) -> Floats:
    """How far two thresholds of each label agree: photos that both give it to, of those that either does; [m].

    One of the two sets lies within the other, so this is the smaller count over the larger; 1 where both are empty.
    """
    first, second = _given(scores, a), _given(scores, b)
    larger = np.maximum(first, second)
    return np.where(larger > 0, np.minimum(first, second) / np.maximum(larger, 1), 1.0)


def _given(scores: Scores, thresholds: Floats) -> npt.NDArray[np.intp]:
    """How many photos get each label; [m]."""
    return np.count_nonzero(scores >= thresholds.astype(np.float32), axis=0)


def _overlaps_of_methods(known: Known) -> dict[Method, float]:
    """The mean overlap of every method, each label predicted from all others."""
    found = {}
    for name, space in SPACES.items():
        values = space.of_thresholds(known.thresholds, known.scores)
        for sharpness in SHARPNESS:
            expected = space.to_thresholds(_left_out_means(known, values, sharpness), known.scores)
            found[Method(name, sharpness)] = float(overlap(known.scores, expected, known.thresholds).mean())
    return found


def _left_out_means(known: Known, values: Floats, sharpness: float) -> Floats:
    """Of each known label's value what the others' would have it be."""
    weights = np.exp(sharpness * known.similarities)
    np.fill_diagonal(weights, 0)
    return weights @ values / weights.sum(axis=1)


def _folds(count: int) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Which labels are left out, and which stay."""
    places = np.arange(count)
    parts = count if count <= MOST_FOLDS_OF_ONE else TENTHS
    for part in range(parts):
        yield places[places % parts == part], places[places % parts != part]


# ---- the languages in which a threshold can be said -----------------------------------------------------------------


@dataclass(frozen=True)
class Space:
    """A language of thresholds. Both functions take [m] values and the float32 [n, m] scores of the same labels."""

    of_thresholds: Callable[[Floats, Scores], Floats]
    to_thresholds: Callable[[Floats, Scores], Floats]


def _logit(values: npt.ArrayLike) -> Floats:
    inside = np.clip(np.asarray(values, dtype=np.float64), EPSILON, 1 - EPSILON)
    return np.log(inside) - np.log1p(-inside)


def _sigmoid(values: Floats) -> Floats:
    return 1 / (1 + np.exp(-values))


def _middle_and_spread(scores: Scores) -> tuple[Floats, Floats]:
    """Of each label's scores on all photos, in logits: their median, and how far the high ones lie above it."""
    middle, high = np.quantile(_logit(scores), [MIDDLE, HIGH], axis=0)
    return middle, np.maximum(high - middle, EPSILON)


def _standing_of(thresholds: Floats, scores: Scores) -> Floats:
    middle, spread = _middle_and_spread(scores)
    return (_logit(thresholds) - middle) / spread


def _threshold_of_standing(values: Floats, scores: Scores) -> Floats:
    middle, spread = _middle_and_spread(scores)
    return _sigmoid(middle + values * spread)


def _share_above(thresholds: Floats, scores: Scores) -> Floats:
    """The logit of the share of photos that get the label, kept from 0 and 1 by half a photo."""
    return _logit((_given(scores, thresholds) + 0.5) / (len(scores) + 1))


def _threshold_of_share(values: Floats, scores: Scores) -> Floats:
    """The threshold midway between the scores that the share separates."""
    given = _sigmoid(values) * (len(scores) + 1) - 0.5
    below = np.clip(1 - given / len(scores), 0, 1)
    quantiles = [np.quantile(column, at, method="hazen") for column, at in zip(scores.T, below, strict=True)]
    return np.array(quantiles, dtype=np.float64)


SPACES = {
    "score": Space(lambda thresholds, _: _logit(thresholds), lambda values, _: _sigmoid(values)),
    "standing among its scores": Space(_standing_of, _threshold_of_standing),
    "share of photos": Space(_share_above, _threshold_of_share),
}
