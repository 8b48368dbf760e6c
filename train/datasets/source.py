"""What a dataset gives: photos to train on and, where it has a split of its own, photos held out."""

from dataclasses import dataclass
from pathlib import Path

from mlzsl.cli.errors import UsageError
from mlzsl.cli.progress import log
from mlzsl.imaging.photoset import PhotoSet

HELD_OUT = 0.2
OWN_SPLIT = "which has test photos of its own; leave it out"


@dataclass(frozen=True)
class Source:
    """The photos of a dataset.

    Attributes:
        training: the photos to train on, or all where there is no split.
        held_out: the photos to test on; None leaves it to the user's share.
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
    """A source whose test split is not on this disk; says so."""
    log(f"note: {missing} is not there: a share of the training photos is held out instead", quiet)
    return Source(photos)
