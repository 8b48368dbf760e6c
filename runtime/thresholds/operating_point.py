"""Thresholds: the score from which a label holds, chosen on photos whose labels are known.

A threshold splits the photos by score; photos of equal score are never split. Only the cuts that the photos themselves
offer are looked at, all of them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import UsageError

BEST_F1, PRECISION, RECALL = "best-f1", "precision", "recall"

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Goal:
    """What a threshold is chosen for.

    Attributes:
        kind: BEST_F1; PRECISION: the most photos of which `level` are right; RECALL: the fewest photos among which are
            `level` of the right ones.
        level: in (0, 1], 0 for BEST_F1.
    """

    kind: str
    level: float = 0.0

    def __str__(self) -> str:
        return self.kind if self.kind == BEST_F1 else f"{self.kind}={self.level:g}"


class OperatingPoint(NamedTuple):
    """A threshold and what it does to the photos it was chosen on, or is tried on.

    Attributes:
        threshold: the label holds from this score on; a float32's value, in [0, 1].
        given: how many photos get the label.
        precision, recall, f1: of those; precision is NaN where no photo gets it, recall and F1 where none has it.
        reached: whether the goal was reached; a precision may be out of reach.
    """

    threshold: float
    given: int
    precision: float
    recall: float
    f1: float
    reached: bool = True


def parse_goal(text: str) -> Goal:
    """Read `best-f1`, `precision=0.9` or `recall=0.8`.

    Raises:
        UsageError: it is none of these.
    """
    kind, _, level = text.partition("=")
    if text == BEST_F1:
        return Goal(BEST_F1)
    try:
        number = float(level)
    except ValueError:
        number = 0.0
    if kind not in (PRECISION, RECALL) or not 0 < number <= 1:
        raise UsageError(f"{text!r} is no goal for thresholds; use best-f1, precision=0.9 or recall=0.8.")
    return Goal(kind, number)


def choose_operating_point(scores: npt.NDArray[np.float32], targets: Bools, goal: Goal) -> OperatingPoint:
    """Choose the threshold of one label on labelled photos.

    - Best F1: of several cuts that reach it the one that gives the label to the fewest photos.
    - Precision: of the cuts that reach it the one with the most recall; where none does, the most precise.
    - Recall: the highest threshold that reaches it.

    The threshold lies midway between the last score above the cut and the first below it, so that it holds for an
    engine whose scores differ a little.

    Args:
        scores: float32 [n], in [0, 1].
        targets: bool [n], which photos have the label; at least one does.
        goal: what is wanted.

    Raises:
        ValueError: no photo has the label.
    """
    positives = int(targets.sum())
    if not positives:
        raise ValueError("no photo has the label")
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    given = np.flatnonzero(np.append(falling[1:] < falling[:-1], True)) + 1  # photos above each possible cut
    hits = np.cumsum(targets[order], dtype=np.intp)[given - 1]
    place, reached = _best_place(given, hits, positives, goal)
    return operating_point_at(_between(falling, int(given[place])), scores, targets)._replace(reached=reached)


def operating_point_at(threshold: float, scores: npt.NDArray[np.float32], targets: Bools) -> OperatingPoint:
    """What a threshold does to labelled photos: float32 [n] and bool [n]."""
    holds = scores >= np.float32(threshold)
    given, positives, hits = int(holds.sum()), int(targets.sum()), int((holds & targets).sum())
    precision = hits / given if given else np.nan
    recall, f1 = (hits / positives, 2 * hits / (given + positives)) if positives else (np.nan, np.nan)
    return OperatingPoint(float(np.float32(threshold)), given, precision, recall, f1)


def _best_place(
    given: npt.NDArray[np.intp], hits: npt.NDArray[np.intp], positives: int, goal: Goal
) -> tuple[int, bool]:
    """Which of the cuts, highest threshold first, serves a goal best, and whether it reaches it."""
    if goal.kind == BEST_F1:
        return int(np.argmax(2 * hits / (given + positives))), True
    if goal.kind == RECALL:
        return int(np.argmax(hits / positives >= goal.level)), True
    precision = hits / given
    reaching = precision >= goal.level
    if reaching.any():
        return int(np.argmax(np.where(reaching, hits, -1))), True
    most_precise = precision == precision.max()
    return int(np.argmax(np.where(most_precise, hits, -1))), False


def _between(falling: npt.NDArray[np.float32], given: int) -> float:
    """A threshold that gives the label to the first `given` of the scores and to no other."""
    last = falling[given - 1]
    if given == len(falling):
        return float(last)
    below = falling[given]
    middle = np.float32((float(last) + float(below)) / 2)
    return float(middle if below < middle <= last else last)
