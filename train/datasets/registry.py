"""What `--data` names: the generated set aside, a folder of ours or FORMAT:PATH of a dataset as its makers ship it."""

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
    """One way that labelled photos lie on a disk.

    Attributes:
        load: (folder, label set, quiet) -> photos.
        label_set: the labels that the format itself stands for, None where the user has to choose.
        landmark: a path that only this format has, by which to recognize it; "" for none.
    """

    load: Callable[[Path, LabelSet, bool], Source]
    label_set: str | None
    landmark: str = ""


FORMATS = {
    "folder": Format(lambda root, _, quiet: Source(load_folder(root, quiet=quiet)), "coco80"),
    "coco": Format(load_coco, "coco80", "annotations"),
    "nuswide": Format(load_nuswide, "nuswide81", "ImageList"),
    "voc": Format(load_voc, "voc20", "ImageSets"),
    "openimages": Format(load_open_images, None),
}


def parse_data(spec: str) -> tuple[str, Path]:
    """Split what `--data` says into a format and a path; a path alone is a folder with a labels.json.

    Raises:
        UsageError: an unknown format, or a folder that is a dataset in another format.
    """
    name, colon, path = spec.partition(":")
    if colon and name in FORMATS:
        return name, Path(path)
    root = Path(spec)
    if colon and not root.exists() and Path(path).exists():
        raise UsageError(f"--data {spec}: {name!r} is not a format; expected one of {', '.join(FORMATS)}.")
    if not (root / LABELS).is_file():
        for other, format_ in FORMATS.items():
            if format_.landmark and (root / format_.landmark).is_dir():
                raise UsageError(
                    f"--data {spec}: no {LABELS} in it, but {format_.landmark}/; if this is the dataset in its own "
                    f"format, say --data {other}:{spec}."
                )
    return "folder", root


def default_labels(spec: str) -> str:
    """The label set that the data of `--data` comes with.

    Raises:
        UsageError: the format has none, or is unknown.
    """
    name, _ = parse_data(spec)
    label_set = FORMATS[name].label_set
    if label_set is None:
        raise UsageError(f"--data {spec}: {name} has no label set of its own; name the labels to use with --labels.")
    return label_set


def load_data(spec: str, labels: LabelSet, quiet: bool = False) -> Source:
    """Read the photos that `--data` names, in their format.

    Raises:
        UsageError: what is there is not what the format says; the sentence names the file and what to do.
    """
    name, root = parse_data(spec)
    return FORMATS[name].load(root, labels, quiet)
