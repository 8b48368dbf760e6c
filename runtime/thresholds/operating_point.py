"""Operating points: a label's threshold, and its precision and recall on labelled photos.

A threshold splits the photos by score; photos of equal score are never split. All splits of the photos are tried.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import UsageError

BEST_F1, PRECISION, RECALL = "best-f1", "precision", "recall"

Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Goal:
    """What a threshold is chosen for.

    Attributes:
        kind: BEST_F1; PRECISION, the highest recall at a precision of `level`; or RECALL, the highest precision at a
            recall of `level`.
        level: in (0, 1]; 0 for BEST_F1.
    """

    kind: str
    level: float = 0.0

    def __str__(self) -> str:
        return self.kind if self.kind == BEST_F1 else f"{self.kind}={self.level:g}"


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and how it performs on labelled photos.

    Attributes:
        threshold: the label is predicted from this score on; a float32's value, in [0, 1].
        predicted_positive: number of photos for which the label is predicted.
        precision, recall, f1: precision is NaN if no photo is predicted positive, recall and F1 if none has the label.
        reached: whether the goal was reached; a precision may be out of reach.
    """

    threshold: float
    predicted_positive: int
    precision: float
    recall: float
    f1: float
    reached: bool = True


def parse_goal(text: str) -> Goal:
    """Read `best-f1`, `precision=0.9` or `recall=0.8`.

    Raises:
        UsageError: it is none of these.
    """
    if text == BEST_F1:
        return Goal(BEST_F1)
    kind, _, level = text.partition("=")
    try:
        number = float(level)
    except ValueError:
        number = 0.0
    if kind not in (PRECISION, RECALL) or not 0 < number <= 1:
        raise UsageError(f"--goal {text}: unknown; use best-f1, precision=0.9 or recall=0.8.")
    return Goal(kind, number)


def choose_operating_point(scores: npt.NDArray[np.float32], targets: Bools, goal: Goal) -> OperatingPoint:
    """Choose the threshold of one label on labelled photos.

    - Best F1: of several points with the highest F1, the one with the fewest positive predictions.
    - Precision: of the points that reach it, the one with the highest recall; if there is none, the most precise.
    - Recall: the highest threshold that reaches it.

    The threshold is the midpoint between the lowest score above it and the highest below, so that it suits engines
    whose scores differ slightly.

    Args:
        scores: float32 [n], in [0, 1].
        targets: bool [n], which photos have the label, at least one.
        goal: what to choose it for.

    Raises:
        ValueError: no photo has the label.
    """
    positives = int(targets.sum())
    if not positives:
        raise ValueError("no photo has the label")
    order = np.argsort(-scores, kind="stable")
    descending = scores[order]
    # Every split between different scores: the number of photos above it, and how many of them have the label.
    predicted = np.flatnonzero(np.append(descending[1:] < descending[:-1], True)) + 1
    hits = np.cumsum(targets[order], dtype=np.intp)[predicted - 1]
    best, reached = _best_split(predicted, hits, positives, goal)
    last, below = np.append(descending, np.nan)[[predicted[best] - 1, predicted[best]]]
    middle = np.float32((float(last) + float(below)) / 2)
    threshold = float(middle if below < middle <= last else last)  # the lowest score above it if there is no midpoint
    return dataclasses.replace(operating_point_at(threshold, scores, targets), reached=reached)


def operating_point_at(threshold: float, scores: npt.NDArray[np.float32], targets: Bools) -> OperatingPoint:
    """How a threshold performs on labelled photos: scores float32 [n], targets bool [n]."""
    positive = scores >= np.float32(threshold)
    predicted, positives, hits = int(positive.sum()), int(targets.sum()), int((positive & targets).sum())
    precision = hits / predicted if predicted else np.nan
    recall, f1 = (hits / positives, 2 * hits / (predicted + positives)) if positives else (np.nan, np.nan)
    return OperatingPoint(float(np.float32(threshold)), predicted, precision, recall, f1)


def _best_split(predicted: Counts, hits: Counts, positives: int, goal: Goal) -> tuple[int, bool]:
    """The index of the split, highest threshold first, that serves a goal best; and whether it reaches the goal."""
    if goal.kind == BEST_F1:
        return int(np.argmax(2 * hits / (predicted + positives))), True
    if goal.kind == RECALL:
        return int(np.argmax(hits / positives >= goal.level)), True
    precision = hits / predicted
    reached = bool((precision >= goal.level).any())
    candidates = precision >= (goal.level if reached else precision.max())
    return int(np.argmax(np.where(candidates, hits, -1))), reached
