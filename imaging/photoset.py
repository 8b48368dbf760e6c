"""Photo sets: photos with their labels, in a fixed order, as every dataset format provides them."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import FailureError, UsageError, reason_of
from mlzsl.cli.outputs import sha256_of_bytes, sha256_of_file
from mlzsl.cli.text import label_finder, plural
from mlzsl.imaging.errors import TransientReadError
from mlzsl.imaging.transient import retried, transient_error


@dataclass(frozen=True)
class PhotoSet:
    """n photos with the labels of each.

    Attributes:
        paths: of the image files, without repetition.
        labels: of each photo, in the order of `paths`.
        name: of the set, in messages and records.
    """

    paths: tuple[Path, ...]
    labels: tuple[frozenset[str], ...]
    name: str

    def __post_init__(self) -> None:
        if len(self.paths) != len(self.labels):
            raise ValueError(f"{len(self.paths)} paths but {len(self.labels)} label sets")
        if len(set(self.paths)) != len(self.paths):
            raise ValueError(f"{self.name}: a photo is listed twice")

    def __len__(self) -> int:
        return len(self.paths)

    def key(self) -> str:
        """A hash of the photos' content, in order: it does not change with labels, names or times of modification.

        What is computed from the pixels alone is reused for a renamed folder, and not for other photos of equal names,
        sizes and times.

        Raises:
            UsageError: a file cannot be read.
            FailureError: the machine failed while a file was read.
        """
        with ThreadPoolExecutor() as pool:  # hashing releases the interpreter lock
            return sha256_of_bytes(*pool.map(_content_key, self.paths))

    def spelled_as(self, known: Iterable[str]) -> Self:
        """The same photos, their labels spelled as those of `known` that have the same `label_key`."""
        find = label_finder(known)
        spelled = {label: find(label) or label for label in self.all_labels()}
        return replace(self, labels=tuple(frozenset(map(spelled.__getitem__, labels)) for labels in self.labels))

    def all_labels(self) -> frozenset[str]:
        """The labels that any photo has."""
        return frozenset().union(*self.labels)

    def targets(self, names: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which of `names`, all different, each photo has as a label: bool [n, len(names)]."""
        index_of = {name: index for index, name in enumerate(names)}
        targets = np.zeros((len(self), len(names)), dtype=bool)
        for row, labels in enumerate(self.labels):
            targets[row, [index_of[label] for label in labels & index_of.keys()]] = True
        return targets

    def take(self, indices: Sequence[int]) -> Self:
        """The photos at `indices`, in that order."""
        chosen = [int(index) for index in indices]
        return type(self)(tuple(self.paths[i] for i in chosen), tuple(self.labels[i] for i in chosen), self.name)

    def split(self, held_out: float, seed: int) -> tuple[Self, Self]:
        """Split at random into (training photos, held-out photos), each in the order of the whole.

        Args:
            held_out: the share of held-out photos; rounded, but no part is empty.
            seed: the same seed splits the same number of photos in the same way.

        Raises:
            UsageError: a share outside (0, 1), or fewer than two photos.
        """
        if not 0 < held_out < 1:
            raise UsageError(f"the held-out share is {held_out}; expected a number between 0 and 1, such as 0.2.")
        self._require(2)
        count = min(max(round(held_out * len(self)), 1), len(self) - 1)
        order = np.random.default_rng(seed).permutation(len(self))
        return self.take(sorted(order[count:])), self.take(sorted(order[:count]))

    def folds(self, count: int, seed: int) -> Iterator[tuple[Self, Self]]:
        """Yield the `count` folds of a cross-validation: (training photos, test photos), every photo tested once.

        Raises:
            UsageError: fewer than two folds, or more than there are photos.
        """
        if count < 2:
            raise UsageError(f"the number of folds is {count}; expected at least 2.")
        self._require(count)
        for tested in np.array_split(np.random.default_rng(seed).permutation(len(self)), count):
            others = np.setdiff1d(np.arange(len(self)), tested)
            yield self.take(others.tolist()), self.take(sorted(tested))

    def _require(self, count: int) -> None:
        if len(self) < count:
            raise UsageError(f"{self.name}: {plural(len(self), 'labelled photo')} cannot be split into {count} parts.")


def _content_key(path: Path) -> bytes:
    try:
        return retried(lambda: _hashed(path))
    except TransientReadError as error:
        raise FailureError(f"{path}: could not be read: {error}. Try again.") from error


def _hashed(path: Path) -> bytes:
    try:
        return bytes.fromhex(sha256_of_file(path))
    except OSError as error:
        unreadable = UsageError(f"{path}: the photo cannot be read ({reason_of(error)}).")
        raise (transient_error(error) or unreadable) from error
