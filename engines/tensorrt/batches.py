"""Batches of any size through a few slots that run at once, results in the order of the batches.

It knows nothing of GPUs: a slot is whatever starts a piece of a batch and finishes it later.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mlzsl.cli.errors import FailureError
from mlzsl.engines.artifact.modelfile import Images, Scores


class Slot(Protocol):
    """A place where one piece of a batch runs at a time."""

    def start(self, images: Images) -> None:
        """Take uint8 [n, S, S, 3] and begin; the slot is busy until `finish`."""

    def finish(self) -> Scores:
        """Wait for what was started; float32 [n, L], a copy of the caller's own."""


@dataclass
class _Batch:
    """A batch on its way: the scores of its pieces so far, in order, and how many are to come."""

    missing: int
    parts: list[Scores] = field(default_factory=list)

    def scores(self) -> Scores:
        return self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)


def split(images: Images, most: int) -> Iterator[Images]:
    """A batch in as few pieces of at most `most` as it takes, of nearly the same size; pieces are views."""
    count = -(-len(images) // most)
    return iter(np.array_split(images, count))


def scored_in_order(
    batches: Iterable[Images], slots: Sequence[Slot], most: int, check: Callable[[Images], Images]
) -> Generator[Scores, None, None]:
    """Score batches with as many pieces running as there are slots.

    Args:
        batches: uint8 [n, S, S, 3]; one is pulled only when a slot is free or about to be.
        slots: at least one, all idle.
        most: the largest piece that a slot takes.
        check: returns a batch as slots take it, or raises.

    Yields:
        float32 [n, L] for each batch, in the order of the batches.

    Raises:
        FailureError: as `check` and the slots do; what runs is waited for first.
    """
    idle = deque(slots)
    execution: deque[tuple[Slot, _Batch]] = deque()
    pending: deque[_Batch] = deque()

    def finish_oldest() -> None:
        slot, batch = execution.popleft()
        idle.append(slot)
        batch.parts.append(slot.finish())
        batch.missing -= 1

    try:
        for images in batches:
            pieces = list(split(check(images), most))
            pending.append(_Batch(len(pieces)))
            for piece in pieces:
                if not idle:
                    finish_oldest()
                slot = idle.popleft()
                slot.start(piece)
                execution.append((slot, pending[-1]))
            while pending and not pending[0].missing:
                yield pending.popleft().scores()
        while execution:
            finish_oldest()
            while pending and not pending[0].missing:
                yield pending.popleft().scores()
    finally:
        for slot, _ in execution:
            with contextlib.suppress(FailureError):  # the first error has been raised already
                slot.finish()
