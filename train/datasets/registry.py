"""The dataset formats that `--data` takes besides the synthetic set: a labelled folder, or FORMAT:PATH of a dataset."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlzsl.cli.errors import UsageError
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.imaging.labelled_folder import LABELS, load_folder
from mlzsl.train.datasets.coco import load_coco
from mlzsl.train.datasets.nuswide import load_nuswide
from mlzsl.train.datasets.openimages import load_open_images
from mlzsl.train.datasets.source import Source
from mlzsl.train.datasets.voc import load_voc


@dataclass(frozen=True)
class Format:
    """A layout of labelled photos on disk.

    Attributes:
        load: (folder, label set, quiet) -> photos.
        label_set: the format's own label set, or None if the user has to choose one.
        landmarks: files or folders that only this format has, to recognize it by.
    """

    load: Callable[[Path, LabelSet, bool], Source]
    label_set: str | None
    landmarks: tuple[str, ...] = ()


FORMATS = {
    "folder": Format(lambda root, _, quiet: Source(load_folder(root, quiet=quiet)), "coco80"),
    "coco": Format(load_coco, "coco80", ("annotations", "train/_annotations.coco.json")),
    "nuswide": Format(load_nuswide, "nuswide81", ("ImageList",)),
    "voc": Format(load_voc, "voc20", ("ImageSets", "VOC2007", "VOC2012", "VOCdevkit")),
    "openimages": Format(load_open_images, None),
}


def parse_data(spec: str) -> tuple[str, Path]:
    """Split the value of `--data` into format and path; a path alone is a folder with a labels.json.

    Raises:
        UsageError: an unknown format, or a folder that holds a dataset in another format.
    """
    name, colon, path = spec.partition(":")
    if colon and name in FORMATS:
        return name, Path(path)
    root = Path(spec)
    if colon and not root.exists() and Path(path).exists():
        raise UsageError(f"--data {spec}: {name!r} is not a format; expected one of {', '.join(FORMATS)}.")
    if not (root / LABELS).is_file():
        for other, format_ in FORMATS.items():
            if found := next((name for name in format_.landmarks if (root / name).exists()), None):
                raise UsageError(
                    f"--data {spec}: no {LABELS} in it, but {found}; for the dataset in its own "
                    f"format, use --data {other}:{spec}."
                )
    return "folder", root


def default_labels(spec: str) -> str:
    """The name of the label set of the format in `--data`.

    Raises:
        UsageError: the format has none, or is unknown.
    """
    name, _ = parse_data(spec)
    label_set = FORMATS[name].label_set
    if label_set is None:
        raise UsageError(f"--data {spec}: {name} has no label set of its own; choose one with --labels.")
    return label_set


def load_data(spec: str, labels: LabelSet, quiet: bool = False) -> Source:
    """Read the photos of `--data` in their format.

    Raises:
        UsageError: files are missing or do not follow the format.
    """
    name, root = parse_data(spec)
    return FORMATS[name].load(root, labels, quiet)
