"""Pascal VOC 2007 and 2012: ImageSets/Main/<class>_<split>.txt, the targets of the challenge's classification task.

Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", 2010. Each line has a photo and 1 (it shows the
class), -1 (it does not) or 0 (only in instances marked difficult). A 0 is not a label here; how many there are is
logged. The XML in Annotations/ is not read. Photos of trainval are for training, those of test held out.
"""

from collections import Counter
from pathlib import Path

from mlzsl.cli.errors import UsageError
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.imaging.labelled_folder import FolderPhotos, name_within
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.train.datasets.source import (
    Source,
    keep_labelled,
    read_lines,
    require_photos,
    without_held_out,
)

EXPECTED = "a photo's number and 1, 0 or -1 per line"


def load_voc(root: Path, labels: LabelSet, quiet: bool = False) -> Source:
    """Read Pascal VOC from the folder VOC2007 or VOC2012, or from one that holds one of them or both.

    The training photos of both are joined; 2012 has no targets of its test photos.

    Args:
        root: holds `ImageSets/Main/` and `JPEGImages/`, or `VOC2007/`, `VOC2012/`, or these in `VOCdevkit/`.
        labels: unused; the classes have names.
        quiet: log nothing.

    Raises:
        UsageError: a file or a listed photo is missing, or a file is invalid or differs from the list of photos.
    """
    folders = ("VOC2007", "VOCdevkit/VOC2007", "VOC2012", "VOCdevkit/VOC2012")
    found = [root / folder for folder in (".", *folders) if (root / folder / "ImageSets/Main").is_dir()]
    years = list({year.resolve(): year for year in reversed(found)}.values())[::-1]  # without links to one another
    if not years:
        raise UsageError(f"{root}: no ImageSets/Main in it; expected VOC2007 or VOC2012 as its archives unpack.")
    parts = [_load_split(year, "trainval", quiet) for year in years]
    training = PhotoSet(
        tuple(path for part in parts for path in part.paths),
        tuple(labels for part in parts for labels in part.labels),
        " and ".join(part.name for part in parts),
    )
    tested = next((year for year in years if list((year / "ImageSets/Main").glob("*_test.txt"))), None)
    if tested is None:
        return without_held_out(training, years[0] / "ImageSets/Main/test.txt", quiet)
    return Source(training, _load_split(tested, "test", quiet))


def _load_split(root: Path, split: str, quiet: bool) -> PhotoSet:
    main, photos = root / "ImageSets/Main", FolderPhotos(root / "JPEGImages")
    listed = main / f"{split}.txt"
    numbers = [name_within(line.split()[0], listed) for line in read_lines(listed, "a photo's number per line")]
    files = {path.name.removesuffix(f"_{split}.txt"): path for path in sorted(main.glob(f"*_{split}.txt"))}
    if not files or len(set(numbers)) < len(numbers):
        problem = "a photo twice" if files else f"no files of classes beside it, such as dog_{split}.txt"
        raise UsageError(f"{listed}: found {problem}; expected VOC2007 as its archives unpack.")
    files_of = {number: photos.find(f"{number}.jpg", listed) for number in numbers}
    found = require_photos(files_of, listed, root / "JPEGImages", "the archive")
    labels: dict[str, list[str]] = {number: [] for number in numbers}
    skipped: Counter[str] = Counter()
    for name, path in files.items():
        for number, value in zip(numbers, _read_values(path, numbers, listed), strict=True):
            if value == "1":
                labels[number].append(name)
            skipped["labels of difficult instances only"] += value == "0"
    in_order = ((found[number], names) for number, names in labels.items())
    return keep_labelled(f"{root.resolve().name} {split}", in_order, skipped, quiet)


def _read_values(path: Path, numbers: list[str], listed: Path) -> list[str]:
    """The values of a class's file, which must list the same photos in the same order."""
    rows = [line.split() for line in read_lines(path, EXPECTED)]
    if invalid := next((row for row in rows if len(row) != 2 or row[1] not in ("1", "0", "-1")), None):
        raise UsageError(f"{path}: found {' '.join(invalid)[:40]!r}; expected {EXPECTED}.")
    if [number for number, _ in rows] != numbers:
        raise UsageError(
            f"{path}: its {len(rows):,} photos are not the {len(numbers):,} of {listed.name} in the same order; unpack "
            "the archive again."
        )
    return [value for _, value in rows]
