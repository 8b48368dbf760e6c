"""What a dataset gives: photos to train on and, where it has a split of its own, photos held out."""

from dataclasses import dataclass
from pathlib import Path

from mlzsl.cli.progress import log
from mlzsl.imaging.photoset import PhotoSet


@dataclass(frozen=True)
class Source:
    """The photos of a dataset.

    Attributes:
        training: the photos to train on, or all where there is no split.
        held_out: the photos to test on; None leaves it to the user's share.
    """

    training: PhotoSet
    held_out: PhotoSet | None = None

    def divided(self, share: float, seed: int) -> tuple[PhotoSet, PhotoSet]:
        """(training, held out): the dataset's own split or, without one, `share` of the photos drawn by `seed`."""
        if self.held_out is not None:
            return self.training, self.held_out
        return self.training.split(share, seed)


def without_held_out(photos: PhotoSet, missing: Path, quiet: bool) -> Source:
    """A source whose test split is not on this disk; says so."""
    log(f"note: {missing} is not there: a share of the training photos is held out instead", quiet)
    return Source(photos)
