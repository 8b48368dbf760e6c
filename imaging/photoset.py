"""Photos and their labels, in a fixed order: what the training's data sources all give."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import sha256_of_bytes


@dataclass(frozen=True)
class PhotoSet:
    """n photos, each with the labels it carries.

    Attributes:
        paths: the image files, all different.
        labels: of each photo, in the order of `paths`.
        name: what messages and records call the set.
    """

    paths: tuple[Path, ...]
    labels: tuple[frozenset[str], ...]
    name: str

    def __post_init__(self) -> None:
        if len(self.paths) != len(self.labels):
            raise ValueError(f"{len(self.paths)} paths but {len(self.labels)} label sets")
        if len(set(self.paths)) != len(self.paths):
            raise ValueError(f"{self.name}: a photo is there twice")

    def __len__(self) -> int:
        return len(self.paths)

    def key(self) -> str:
        """A hash of which files these are, in order: name, size and time of change of each, not their labels.

        So what is computed from the pixels alone outlives a correction of the labels, and a moved folder.

        Raises:
            UsageError: a file is gone.
        """
        return sha256_of_bytes(*(_file_key(path) for path in self.paths))

    def take(self, places: Sequence[int]) -> Self:
        """The photos at `places`, in that order."""
        chosen = [int(place) for place in places]
        return type(self)(tuple(self.paths[i] for i in chosen), tuple(self.labels[i] for i in chosen), self.name)

    def split(self, held_out: float, seed: int) -> tuple[Self, Self]:
        """Divide at random, each part in the order of the whole.

        Args:
            held_out: the share of the second part; rounded, but no part is empty.
            seed: the same seed divides the same number of photos in the same way.

        Returns:
            the photos to train on, the photos held out.

        Raises:
            UsageError: a share outside (0, 1), or fewer than two photos.
        """
        if not 0 < held_out < 1:
            raise UsageError(f"a held-out share of {held_out}: expected a number between 0 and 1, such as 0.2.")
        self._need(2)
        count = min(max(round(held_out * len(self)), 1), len(self) - 1)
        places = np.random.default_rng(seed).permutation(len(self))
        return self.take(sorted(places[count:])), self.take(sorted(places[:count]))

    def folds(self, count: int, seed: int) -> Iterator[tuple[Self, Self]]:
        """Yield the `count` divisions of a cross-validation: (train, test), every photo in one test part.

        Raises:
            UsageError: fewer than two folds, or more than there are photos.
        """
        if count < 2:
            raise UsageError(f"{count} folds: expected at least 2.")
        self._need(count)
        parts = np.array_split(np.random.default_rng(seed).permutation(len(self)), count)
        for part in parts:
            others = np.setdiff1d(np.arange(len(self)), part)
            yield self.take(others.tolist()), self.take(sorted(part))

    def _need(self, count: int) -> None:
        if len(self) < count:
            raise UsageError(f"{self.name}: {len(self)} labelled photos cannot be divided into {count} parts.")


def _file_key(path: Path) -> bytes:
    try:
        status = path.stat()
    except OSError as error:
        raise UsageError(f"{path}: the photo cannot be read ({error.strerror}).") from error
    return f"{path.name}\n{status.st_size}\n{status.st_mtime_ns}".encode(errors="surrogateescape")
