"""Pascal VOC 2007: ImageSets/Main/<class>_<split>.txt, the ground truth of the challenge's own classification task.

Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", 2010. A line is a photo and 1 (it has the
class), -1 (it has not) or 0 (only instances that are hard to recognize). The Annotations XML says the same of objects
and is not read. A 0 does not count as a label here; how many there are is said. Training photos are trainval's.
"""

from collections import Counter
from pathlib import Path

from mlzsl.cli.errors import UsageError
from mlzsl.cli.text import first_of
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.imaging.labelled_folder import name_within
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.train.datasets.annotations import labelled_only, photos_below, read_lines
from mlzsl.train.datasets.source import Source, without_held_out

FOLDERS = ("", "VOC2007", "VOCdevkit/VOC2007")  # below the path given
LISTED = "a photo's number and 1, 0 or -1 a line"


def load_voc(root: Path, labels: LabelSet, quiet: bool = False) -> Source:
    """Read Pascal VOC 2007 from the folder VOC2007, or from one that holds it.

    Args:
        root: holds `ImageSets/Main/` and `JPEGImages/`.
        labels: not needed here: the classes have names.
        quiet: do not say what was left out.

    Raises:
        UsageError: a file is missing or unfit, lists differ, or a photo that is named is missing.
    """
    place = next((root / folder for folder in FOLDERS if (root / folder / "ImageSets" / "Main").is_dir()), None)
    if place is None:
        raise UsageError(f"{root}: no ImageSets/Main in it; expected the folder VOC2007 as its archives unpack.")
    present = photos_below(place / "JPEGImages")
    training = _load_split(place, "trainval", present, quiet)
    test = place / "ImageSets" / "Main" / "test.txt"
    if not test.is_file():
        return without_held_out(training, test, quiet)
    return Source(training, _load_split(place, "test", present, quiet))


def _load_split(place: Path, split: str, present: dict[str, Path], quiet: bool) -> PhotoSet:
    main = place / "ImageSets" / "Main"
    listed = main / f"{split}.txt"
    numbers = [name_within(line.split()[0], listed) for line in read_lines(listed, "a photo's number a line")]
    files = {path.name.removesuffix(f"_{split}.txt"): path for path in sorted(main.glob(f"*_{split}.txt"))}
    if not files or len(set(numbers)) < len(numbers):
        found = "a photo twice" if files else f"no files of classes beside it, such as dog_{split}.txt"
        raise UsageError(f"{listed}: found {found}; expected VOC2007 as its archives unpack.")
    carried: list[set[str]] = [set() for _ in numbers]
    left_out: Counter[str] = Counter()
    for name, path in files.items():
        for row, value in enumerate(_values(path, numbers, listed)):
            if value == "1":
                carried[row].add(name)
            left_out["labels of difficult instances only"] += value == "0"
    missing = [number for number in numbers if f"{number}.jpg" not in present]
    if missing:
        raise UsageError(
            f"{listed}: {len(missing):,} of its {len(numbers):,} photos are not in {place / 'JPEGImages'}: "
            f"{first_of(missing)}. Unpack the archive again."
        )
    photos = [(present[f"{number}.jpg"], frozenset(names)) for number, names in zip(numbers, carried, strict=True)]
    return labelled_only(f"VOC2007 {split}", photos, left_out, quiet)


def _values(path: Path, numbers: list[str], listed: Path) -> list[str]:
    """The values of a class's file, whose photos must be those of the list in its order."""
    rows = [line.split() for line in read_lines(path, LISTED)]
    if unfit := next((row for row in rows if len(row) != 2 or row[1] not in ("1", "0", "-1")), None):
        raise UsageError(f"{path}: found {' '.join(unfit)[:40]!r}; expected {LISTED}.")
    if [number for number, _ in rows] != numbers:
        raise UsageError(
            f"{path}: its {len(rows):,} photos are not the {len(numbers):,} of {listed.name} in that order; "
            "they belong together line by line: unpack the archive again."
        )
    return [value for _, value in rows]
