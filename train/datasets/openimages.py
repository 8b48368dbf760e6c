"""Open Images: image-level labels in CSV files (ImageID, Source, LabelName, Confidence) and class descriptions.

Kuznetsova et al., "The Open Images Dataset V4", 2020; the layout of V4 to V7. A photo carries a label whose confidence
is at least a half: people's verdicts are 0 or 1, machines' lie between. Only photos on disk count, and only classes
whose name is a label of the label set: the dataset has 20,000.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mlzsl.cli.errors import UsageError
from mlzsl.cli.progress import log
from mlzsl.cli.text import first_of
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.train.datasets.annotations import labelled_only, photos_below
from mlzsl.train.datasets.source import Source, without_held_out

CONFIDENCE = 0.5
MAX_CLASSES = 100_000
COLUMNS = ("ImageID", "LabelName", "Confidence")


def load_open_images(root: Path, labels: LabelSet, quiet: bool = False) -> Source:
    """Read Open Images from the folder that holds its CSV files and the folders `train/` and `test/` or `validation/`.

    Args:
        root: holds `*class-descriptions*.csv`, `*train-annotations*imagelabels*.csv` and the same for a test or
            validation split; photos are `train/<ImageID>.jpg`, or below `images/`.
        labels: which classes count, by their names without regard to case.
        quiet: do not say what was left out.

    Raises:
        UsageError: a file is missing or unfit, two serve equally, or a row names a class without a description.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; expected Open Images with its CSV files.")
    classes = _classes(_the_one(root, "*class-descriptions*.csv"), labels, quiet)
    training = _load_split(root, "train", classes, quiet)
    for split in ("test", "validation"):
        if list(root.glob(f"*{split}-annotations*imagelabels*.csv")):
            return Source(training, _load_split(root, split, classes, quiet))
    return without_held_out(training, root / "test-annotations-human-imagelabels.csv", quiet)


def _classes(path: Path, labels: LabelSet, quiet: bool) -> dict[str, str | None]:
    """The label of each class id; None where the label set does not have it."""
    label_of = {label.casefold(): label for label in labels.labels}
    classes: dict[str, str | None] = {}
    for number, row in _rows(path):
        if len(row) != 2 or len(classes) >= MAX_CLASSES:
            raise UsageError(f"{path}, line {number}: {len(row)} columns; expected a class's id and its name.")
        if row != ["LabelName", "DisplayName"]:
            classes[row[0]] = label_of.get(row[1].strip().casefold())
    without = sorted(set(labels.labels) - {label for label in classes.values() if label})
    if len(without) == len(labels):
        raise UsageError(
            f"{path}: no class is called like a label of {labels.name}; name fitting labels with --labels."
        )
    if without:
        log(f"note: {path.name} has no class for {len(without)} labels: {first_of(without)}", quiet)
    return classes


def _load_split(root: Path, split: str, classes: dict[str, str | None], quiet: bool) -> PhotoSet:
    path = _the_one(root, f"*{split}-annotations*imagelabels*.csv")
    folder = next((place for place in (root / split, root / "images" / split) if place.is_dir()), root / split)
    photos = {file.stem: file for file in photos_below(folder).values()}
    carried: dict[str, set[str]] = {image: set() for image in photos}
    left_out: Counter[str] = Counter()
    places: tuple[int, ...] | None = None
    for number, row in _rows(path):
        if places is None:
            if missing := [column for column in COLUMNS if column not in row]:
                raise UsageError(f"{path}: no column {missing[0]}; expected ImageID,Source,LabelName,Confidence.")
            width, places = len(row), tuple(row.index(column) for column in COLUMNS)
            continue
        if len(row) != width:
            raise UsageError(f"{path}, line {number}: {len(row)} columns, but its header has {width}; fetch it again.")
        image, class_id, confidence = (row[place] for place in places)
        if class_id not in classes:
            raise UsageError(
                f"{path}, line {number}: class {class_id[:40]!r} has no description; "
                "give the class descriptions of the same release."
            )
        label = classes[class_id]
        if image not in carried:
            left_out[f"rows of photos not in {folder}"] += 1
        elif label is None:
            left_out["rows of classes that are not in the label set"] += 1
        elif _number(confidence, path, number) < CONFIDENCE:
            left_out[f"rows with a confidence below {CONFIDENCE}"] += 1
        else:
            carried[image].add(label)
    in_order = ((photos[image], frozenset(labels)) for image, labels in sorted(carried.items()))
    return labelled_only(f"Open Images {split}", in_order, left_out, quiet)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, columns) of the rows that are not blank; a field has at most csv's limit of 128 KiB."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}).") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a CSV file ({error}); fetch it again.") from error


def _number(text: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UsageError(f"{path}, line {line}: the confidence {text[:40]!r} is not a number from 0 to 1.")
    return value


def _the_one(root: Path, pattern: str) -> Path:
    found = sorted(root.glob(pattern))
    if len(found) != 1:
        names = first_of([path.name for path in found]) or "none"
        raise UsageError(f"{root}: expected one file {pattern}, found {names}.")
    return found[0]
