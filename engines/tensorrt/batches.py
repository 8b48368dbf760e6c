"""Scheduling of batches: split into pieces, run on several slots at once, returned in order. Independent of CUDA."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from mlzsl.cli.errors import FailureError
from mlzsl.engines.artifact.modelfile import Images, Scores


class Slot(Protocol):
    """Runs one piece of a batch at a time."""

    def start(self, images: Images) -> None:
        """Start uint8 [n, S, S, 3]; the slot is busy until `finish`."""

    def finish(self) -> Scores:
        """Wait for the piece; float32 [n, L], owned by the caller."""


def split(images: Images, most: int) -> Iterator[Images]:
    """The fewest pieces of at most `most` images, of nearly equal size, as views."""
    return iter(np.array_split(images, -(-len(images) // most)))


def scored_in_order(
    batches: Iterable[Images], slots: Sequence[Slot], most: int, check: Callable[[Images], Images]
) -> Generator[Scores, None, None]:
    """Score batches with one piece running on every slot.

    Args:
        batches: uint8 [n, S, S, 3]; taken one at a time, as slots become free.
        slots: at least one, all idle.
        most: largest piece of a slot.
        check: validates a batch and returns it contiguous.

    Yields:
        float32 [n, L] for each batch, in the order of the batches.

    Raises:
        FailureError: from `check` or a slot, after running pieces have finished.
    """
    idle = deque(slots)
    running: deque[tuple[Slot, list[Scores]]] = deque()  # with the scores of its batch's finished pieces
    pending: deque[tuple[int, list[Scores]]] = deque()  # batches: number of pieces, scores of the finished ones

    def finish_oldest() -> None:
        slot, parts = running.popleft()
        idle.append(slot)
        parts.append(slot.finish())

    def finished() -> Iterator[Scores]:
        while pending and len(pending[0][1]) == pending[0][0]:
            _, parts = pending.popleft()
            yield parts[0] if len(parts) == 1 else np.concatenate(parts)

    try:
        for images in batches:
            pieces = list(split(check(images), most))
            pending.append((len(pieces), []))
            for piece in pieces:
                if not idle:
                    finish_oldest()
                slot = idle.popleft()
                slot.start(piece)
                running.append((slot, pending[-1][1]))
            yield from finished()
        while running:
            finish_oldest()
            yield from finished()
    finally:
        for slot, _ in running:
            with contextlib.suppress(FailureError):  # the first error has been raised already
                slot.finish()
