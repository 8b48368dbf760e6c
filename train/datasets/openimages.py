"""Open Images: image-level labels in CSV files (ImageID, Source, LabelName, Confidence) and class descriptions.

Kuznetsova et al., "The Open Images Dataset V4", 2020; the layout of V4 to V7. A photo has the labels of confidence 0.5
or more: verified labels have 0 or 1, machine-generated ones values between. Only photos on disk count, and only classes
whose name is in the label set, as the dataset has 20,000.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mlzsl.cli.errors import UsageError
from mlzsl.cli.progress import log
from mlzsl.cli.text import first_of, label_finder
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.imaging.labelled_folder import FolderPhotos
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.train.datasets.source import Source, first_folder, keep_labelled, without_held_out

MIN_CONFIDENCE = 0.5
MAX_CLASSES = 100_000
COLUMNS = ("ImageID", "LabelName", "Confidence")


def load_open_images(root: Path, labels: LabelSet, quiet: bool = False) -> Source:
    """Read Open Images from the folder that holds its CSV files and the folders `train/` and `test/` or `validation/`.

    Args:
        root: holds `*class-descriptions*.csv`, `*train-annotations*imagelabels*.csv` and the same for a test or
            validation split; photos are `train/<ImageID>.jpg`, or below `images/`.
        labels: the classes to read, by name and regardless of case.
        quiet: log nothing.

    Raises:
        UsageError: a file is missing or invalid, several match, a row names a class without a description, or two
            photos have one ImageID.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; expected Open Images with its CSV files.")
    classes = _read_classes(_single_file(root, "*class-descriptions*.csv"), labels, quiet)
    training = _load_split(root, "train", classes, quiet)
    for split in ("test", "validation"):
        if list(root.glob(f"*{split}-annotations*imagelabels*.csv")):
            return Source(training, _load_split(root, split, classes, quiet))
    return without_held_out(training, root / "test-annotations-human-imagelabels.csv", quiet)


def _read_classes(path: Path, labels: LabelSet, quiet: bool) -> dict[str, str | None]:
    """The label of each class id; None for classes outside the label set."""
    find = label_finder(labels.labels)
    classes: dict[str, str | None] = {}
    for number, row in _read_rows(path):
        if len(row) != 2 or len(classes) >= MAX_CLASSES:
            raise UsageError(f"{path}, line {number}: {len(row)} columns; expected a class's id and its name.")
        if row != ["LabelName", "DisplayName"]:
            classes[row[0]] = find(row[1])
    missing = sorted(set(labels.labels) - {label for label in classes.values() if label})
    if len(missing) == len(labels):
        raise UsageError(f"{path}: no class has the name of a label of {labels.name}; choose other --labels.")
    if missing:
        log(f"note: {path.name} has no class for {len(missing)} labels: {first_of(missing)}", quiet)
    return classes


def _load_split(root: Path, split: str, classes: dict[str, str | None], quiet: bool) -> PhotoSet:
    path = _single_file(root, f"*{split}-annotations*imagelabels*.csv")
    folder = first_folder(root, split, f"images/{split}")
    photos: dict[str, Path] = {}
    for file in FolderPhotos(folder).paths.values():
        if (other := photos.setdefault(file.stem, file)) != file:
            raise UsageError(f"{folder}: {other} and {file} are both named by {file.stem}; keep one of them.")
    labels: dict[str, set[str]] = {image: set() for image in photos}
    skipped: Counter[str] = Counter()
    rows = _read_rows(path)
    _, header = next(rows, (1, [""]))
    if missing := [column for column in COLUMNS if column not in header]:
        raise UsageError(f"{path}: no column {missing[0]}; expected ImageID,Source,LabelName,Confidence.")
    columns = [header.index(column) for column in COLUMNS]
    for number, row in rows:
        if len(row) != len(header):
            raise UsageError(
                f"{path}, line {number}: {len(row)} columns, but its header has {len(header)}; fetch it again."
            )
        image, class_id, confidence = (row[column] for column in columns)
        if class_id not in classes:
            raise UsageError(
                f"{path}, line {number}: class {class_id[:40]!r} has no description; expected the descriptions of the "
                "same release."
            )
        label = classes[class_id]
        if image not in labels:
            skipped[f"rows of photos not in {folder}"] += 1
        elif label is None:
            skipped["rows of classes that are not in the label set"] += 1
        elif _parse_confidence(confidence, path, number) < MIN_CONFIDENCE:
            skipped[f"rows with a confidence below {MIN_CONFIDENCE}"] += 1
        else:
            labels[image].add(label)
    in_order = ((photos[image], names) for image, names in sorted(labels.items()))
    return keep_labelled(f"Open Images {split}", in_order, skipped, quiet)


def _read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and columns of the non-blank rows; the csv module limits a field to 128 KiB."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            yield from ((reader.line_num, row) for row in reader if row)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}).") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a CSV file ({error}); fetch it again.") from error


def _parse_confidence(text: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UsageError(f"{path}, line {line}: the confidence {text[:40]!r} is not a number from 0 to 1.")
    return value


def _single_file(root: Path, pattern: str) -> Path:
    found = sorted(root.glob(pattern))
    if len(found) != 1:
        names = first_of([path.name for path in found]) or "none"
        raise UsageError(f"{root}: expected one file {pattern}, found {names}.")
    return found[0]
