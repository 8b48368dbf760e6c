"""Same picture, same scores? In batches of other sizes, in other places, beside other pictures, again and again."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlzsl.engines.artifact.modelfile import Images, Scores
from mlzsl.engines.engine import Engine

BLACK = -1  # the place that stands for a black picture: padding
REPEATS = 3

Places = list[int]  # which pictures a batch holds


@dataclass(frozen=True)
class Variation:
    """How far a picture's scores moved when one thing was changed.

    Attributes:
        changed: what: "batch size", "place in the batch", "neighbours", "run" or "number in flight".
        largest: largest difference of a score; NaN where a score is NaN.
        flipped: decisions that differ.
        decisions: how many there were.
    """

    changed: str
    largest: float
    flipped: int
    decisions: int


def variations(engine: Engine, images: Images, thresholds: npt.NDArray[np.floating]) -> list[Variation]:
    """Score pictures again in every way that must not matter, and compare with their scores in one batch.

    Args:
        engine: what scores them.
        images: uint8 [n, S, S, 3].
        thresholds: from which score each label holds, [L].
    """
    count = len(images)
    everyone = list(range(count))
    together = engine.scores(images)
    shelf = np.concatenate([images, np.zeros_like(images[:1])])  # BLACK is its last

    def run(batches: list[Places]) -> list[Scores]:
        return list(engine.run(np.ascontiguousarray(shelf[batch]) for batch in batches))

    def one_by_one(batches: Iterable[Places]) -> list[Scores]:
        return [engine.scores(np.ascontiguousarray(shelf[batch])) for batch in batches]

    sizes = sorted({1, 2, 3, max(count - 1, 1)})
    of_sizes = [everyone[start : start + size] for size in sizes for start in range(0, count, size)]
    of_sizes.append([place % count for place in range(2 * count + 1)])
    placed = [everyone[::-1], everyone[1:] + everyone[:1]]
    padded = [[place] + [BLACK] * (count - 1) for place in everyone] + [[*everyone, BLACK, BLACK]]
    repeated = [everyone] * REPEATS
    crowded = [everyone] * (engine.in_flight + 1)
    ways = {
        "batch size": (of_sizes, run(of_sizes)),
        "place in the batch": (placed, run(placed)),
        "neighbours": (padded, run(padded)),
        "run": (repeated, one_by_one(repeated)),
        "number in flight": (crowded, run(crowded)),
    }
    return [_variation(changed, batches, scores, together, thresholds) for changed, (batches, scores) in ways.items()]


def _variation(
    changed: str,
    batches: list[Places],
    scores: list[Scores],
    together: Scores,
    thresholds: npt.NDArray[np.floating],
) -> Variation:
    places = np.concatenate([np.array(batch) for batch in batches])
    ours = places != BLACK
    found = np.concatenate(scores)[ours]
    expected = together[places[ours]]
    return Variation(
        changed,
        largest=float(np.abs(found.astype(np.float64) - expected).max()),
        flipped=int(((found >= thresholds) != (expected >= thresholds)).sum()),
        decisions=found.size,
    )
