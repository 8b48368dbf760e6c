"""What every loader returns, and what the loaders share: lists read with bounds, checks of listed photos."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mlzsl.cli.errors import UsageError
from mlzsl.cli.inputs import read_text
from mlzsl.cli.progress import log
from mlzsl.cli.text import first_of
from mlzsl.imaging.photoset import PhotoSet

HELD_OUT = 0.2
OWN_SPLIT = "which has test photos of its own; leave it out"
MAX_LIST_BYTES = 64 * 2**20  # of a list of photos or targets: over a million lines


@dataclass(frozen=True)
class Source:
    """The photos of a dataset.

    Attributes:
        training: the training split, or all photos if the dataset has no split.
        held_out: the test split, or None.
    """

    training: PhotoSet
    held_out: PhotoSet | None = None

    def split(self, share: float | None, seed: int) -> tuple[PhotoSet, PhotoSet]:
        """Return training and held-out photos: the dataset's own split or, without one, a share drawn by `seed`.

        Args:
            share: of the photos to hold out; None for HELD_OUT.
            seed: of the draw.

        Raises:
            UsageError: a share for a dataset that has a split of its own, or too few photos.
        """
        if self.held_out is None:
            return self.training.split(HELD_OUT if share is None else share, seed)
        if share is not None:
            raise UsageError(f"--held-out {share}: has no effect on {self.training.name}, {OWN_SPLIT}.")
        return self.training, self.held_out


def without_held_out(photos: PhotoSet, missing: Path, quiet: bool) -> Source:
    """Make a source without a test split, and report that its file `missing` is."""
    log(f"note: {missing} does not exist; a share of the training photos is held out instead", quiet)
    return Source(photos)


def first_folder(root: Path, *names: str) -> Path:
    """The first of these folders below `root` that exists; the first of all if none does."""
    return next((root / name for name in names if (root / name).is_dir()), root / names[0])


def read_lines(path: Path, expected: str) -> list[str]:
    """Read the stripped, non-blank lines of a UTF-8 file of at most MAX_LIST_BYTES; `expected` completes errors.

    Raises:
        UsageError: it cannot be read, is too large or is not UTF-8.
    """
    text = read_text(path, MAX_LIST_BYTES, f"expected {expected}")
    return [line.strip() for line in text.split("\n") if line.strip()]


def require_photos(photos: dict[str, Path | None], listed: Path, folder: Path, archive: str) -> dict[str, Path]:
    """Check that the photos that a file lists were found, each under one name.

    Raises:
        UsageError: some were not; the error names the first of them and the archive to unpack again.
    """
    found = {name: path for name, path in photos.items() if path}
    if missing := sorted(photos.keys() - found.keys()):
        raise UsageError(
            f"{listed}: {len(missing):,} of its photos are not in {folder}: {first_of(missing)}. "
            f"Unpack {archive} again."
        )
    if len(set(found.values())) < len(found):
        raise UsageError(f"{listed}: lists a photo twice in different spellings; expected each once.")
    return found


def keep_labelled(
    name: str, photos: Iterable[tuple[Path, Iterable[str]]], skipped: Counter[str], quiet: bool
) -> PhotoSet:
    """Make a photo set of the photos that have a label, and log its size and what was skipped.

    Args:
        name: of the set.
        photos: files and their labels, in order.
        skipped: how often something was skipped, by reason ("rows of …"); photos without a label are added.
        quiet: log nothing.

    Raises:
        UsageError: no photo has a label.
    """
    everything = [(path, frozenset(labels)) for path, labels in photos]
    kept = [(path, labels) for path, labels in everything if labels]
    skipped["photos without a label"] += len(everything) - len(kept)
    reasons = [f"{count:,} {reason}" for reason, count in skipped.items() if count]
    if not kept:
        raise UsageError(f"{name}: no photo with a label is left ({', '.join(reasons) or 'the list is empty'}).")
    log(f"{name}: {len(kept):,} photos" + (f"; skipped: {', '.join(reasons)}" if reasons else ""), quiet)
    return PhotoSet(tuple(path for path, _ in kept), tuple(labels for _, labels in kept), name)
