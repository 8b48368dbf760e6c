"""Noise that is the same however a batch is divided among processes.

Every process draws the noise of the whole batch from the same generator and takes its own photos' part: what is drawn
for a photo, and what is left in the generator afterwards, then does not depend on how many processes there are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Part:
    photos: slice
    whole: int


_part: ContextVar[_Part | None] = ContextVar("the part of a batch that this process has", default=None)


@contextmanager
def part_of_batch(photos: slice, whole: int) -> Iterator[None]:
    """Within, a system sees only the photos [start, stop) of a batch of `whole` photos."""
    token = _part.set(_Part(photos, whole))
    try:
        yield
    finally:
        _part.reset(token)


def noise_like(states: Tensor, photos_dim: int) -> Tensor:
    """z ~ N(0, 1) of the shape, type and device of `states`, whose dimension `photos_dim` counts photos."""
    part = _part.get()
    if part is None:
        return torch.randn_like(states)
    shape = list(states.shape)
    shape[photos_dim] = part.whole
    of_batch = torch.randn(shape, dtype=states.dtype, device=states.device)
    return of_batch.narrow(photos_dim, part.photos.start, states.shape[photos_dim])
