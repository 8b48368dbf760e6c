"""Labelled photos, and which labels of a model each has: what mAP and thresholds are measured on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import UsageError
from mlzsl.cli.progress import log
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.imaging.photoset import PhotoSet

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LabelledPhotos:
    """Photos with their labels.

    Attributes:
        paths: n image files.
        targets: bool [n, L], labels in the manifest's order.
    """

    paths: tuple[str, ...]
    targets: Bools


def match_labels(photos: PhotoSet, manifest: Manifest, quiet: bool = False) -> LabelledPhotos:
    """Match the labels of photos with those of a model.

    Args:
        photos: from `imaging.labelled_folder.load_folder`.
        manifest: of the model; labels that it lacks are ignored, and their number is logged.
        quiet: do not log.

    Raises:
        UsageError: none of the photos' labels is the model's.
    """
    names = [label.name for label in manifest.labels]
    photos = photos.spelled_as(names)
    targets = photos.targets(names)
    unknown = sorted(photos.all_labels().difference(names))
    if not targets.any():
        raise UsageError(
            f"{photos.name}: none of the labels of its photos ({', '.join(unknown[:3])}, …) is among the "
            f"{len(names)} of the model; use labels of the model's label set."
        )
    if unknown:
        log(f"{photos.name}: ignoring {len(unknown)} labels that the model does not have", quiet)
    return LabelledPhotos(tuple(str(path) for path in photos.paths), targets)
