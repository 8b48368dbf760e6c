"""Checks that an image's scores depend on nothing else: not on batch size, position, neighbours, run or load."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlzsl.engines.artifact.modelfile import Images
from mlzsl.engines.engine import Engine

BLACK = -1  # index of a black image: padding
REPEATS = 3

Batch = list[int]  # indices of images


@dataclass(frozen=True)
class Variation:
    """How far the scores of images differ when one condition changes.

    Attributes:
        changed: "batch size", "position in the batch", "neighbours", "run" or "number in flight".
        largest: largest difference of a score; NaN if a score is NaN.
        flipped: decisions that differ.
        decisions: how many there are.
    """

    changed: str
    largest: float
    flipped: int
    decisions: int


def variations(engine: Engine, images: Images, thresholds: npt.NDArray[np.floating]) -> list[Variation]:
    """Score images again under conditions that must not matter, and compare with their scores in one batch.

    Args:
        engine: scores them.
        images: uint8 [n, S, S, 3].
        thresholds: the threshold of each label, [L].
    """
    count = len(images)
    whole = list(range(count))
    expected = engine.scores(images)
    padded_images = np.concatenate([images, np.zeros_like(images[:1])])  # BLACK is the last

    def inputs(batches: Iterable[Batch]) -> Iterable[Images]:
        return (np.ascontiguousarray(padded_images[batch]) for batch in batches)

    def variation(changed: str, batches: list[Batch], in_flight: bool = True) -> Variation:
        found = list(engine.run(inputs(batches)) if in_flight else map(engine.scores, inputs(batches)))
        indices = np.concatenate([np.array(batch) for batch in batches])
        scores, same = np.concatenate(found)[indices != BLACK], expected[indices[indices != BLACK]]
        return Variation(
            changed,
            largest=float(np.abs(scores.astype(np.float64) - same).max()),
            flipped=int(((scores >= thresholds) != (same >= thresholds)).sum()),
            decisions=scores.size,
        )

    sizes = sorted({1, 2, 3, max(count - 1, 1)})
    of_sizes = [whole[start : start + size] for size in sizes for start in range(0, count, size)]
    padded = [[index] + [BLACK] * (count - 1) for index in whole]
    return [
        variation("batch size", [*of_sizes, [index % count for index in range(2 * count + 1)]]),
        variation("position in the batch", [whole[::-1], whole[1:] + whole[:1]]),
        variation("neighbours", [*padded, [*whole, BLACK, BLACK]]),
        variation("run", [whole] * REPEATS, in_flight=False),
        variation("number in flight", [whole] * (engine.in_flight + 1)),
    ]
