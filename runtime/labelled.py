"""Photos whose true labels are known: what mAP is measured on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.cli.progress import log
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.imaging.labelled_folder import load_folder
from mlzsl.metrics.average_precision import evaluate

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LabelledPhotos:
    """Photos and which of a model's labels each really has.

    Attributes:
        paths: n image files.
        targets: bool [n, L], labels in the manifest's order.
    """

    paths: tuple[str, ...]
    targets: Bools


@dataclass(frozen=True)
class Level:
    """What one measure of ranking is for an engine and for its reference, both in points (hundredths).

    Attributes:
        name: such as "unseen mAP".
        reference, engine: the levels.
    """

    name: str
    reference: float
    engine: float

    @property
    def lost(self) -> float:
        """Positive where the engine is worse."""
        return self.reference - self.engine


def load_labelled(folder: Path, labels_json: Path | None, manifest: Manifest, quiet: bool = False) -> LabelledPhotos:
    """Read which labels photos have, as far as a model knows the labels.

    Args:
        folder: the photos, or what holds `images/` and the JSON file.
        labels_json: `{"photo.jpg": ["dog", "chair"], ...}`, as `mlzsl-train` takes it; None looks for `labels.json` in
            the folder and beside it.
        manifest: gives the labels; photos and labels that it lacks count for nothing, and how many is said.
        quiet: do not say so.

    Raises:
        UsageError: folder or file is unfit, or not one of its labels is the model's.
    """
    photos = load_folder(folder, labels_json, quiet)
    place_of = {label.name: place for place, label in enumerate(manifest.labels)}
    targets = np.zeros((len(photos), len(place_of)), dtype=bool)
    strangers = set[str]()
    for row, labels in enumerate(photos.labels):
        targets[row, [place_of[label] for label in labels if label in place_of]] = True
        strangers |= labels - place_of.keys()
    named = f"the labels.json of {folder}" if labels_json is None else f"--labels-json {labels_json}"
    if not targets.any():
        raise UsageError(
            f"{named}: not one of its labels ({', '.join(sorted(strangers)[:3])}, …) is among the "
            f"{len(place_of)} of the model; name labels of the model's label set."
        )
    if strangers:
        log(f"{named}: {len(strangers)} of its labels are not the model's and count for nothing", quiet)
    return LabelledPhotos(tuple(str(path) for path in photos.paths), targets)


def levels(
    scores: npt.NDArray[np.float32], reference: npt.NDArray[np.float32], targets: Bools, seen: Bools
) -> list[Level]:
    """mAP and miAP of an engine and of its reference, on seen and unseen labels; left out where no photo has any.

    Args:
        scores, reference: float32 [n, L] each.
        targets: bool [n, L].
        seen: bool [L].

    Raises:
        FailureError: a score is NaN.
    """
    ours, theirs = evaluate(scores, targets, seen), evaluate(reference, targets, seen)
    found = [
        Level(f"{part} {measure}", 100 * getattr(theirs[part], measure), 100 * getattr(ours[part], measure))
        for part in ("seen", "unseen")
        for measure in ("mAP", "miAP")
    ]
    return [level for level in found if not np.isnan(level.reference)]


def targets_sha256(targets: Bools) -> str:
    """A hash of which labels the photos have."""
    return sha256_of_bytes(str(targets.shape).encode(), np.packbits(targets).tobytes())
