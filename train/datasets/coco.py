"""MS-COCO: annotations/instances_train2014.json and instances_val2014.json beside the folders train2014 and val2014.

Lin et al., "Microsoft COCO: Common Objects in Context", 2014. The labels of a photo are the categories of its
instances, crowds included. Photos of train2014 are for training, those of val2014 held out, as in the paper
(section 4.1).
"""

from collections import Counter
from pathlib import Path

import msgspec

from mlzsl.cli.errors import UsageError
from mlzsl.cli.inputs import read_bytes
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.imaging.labelled_folder import name_within
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.train.datasets.source import (
    Source,
    find_photos,
    first_folder,
    keep_labelled,
    require_photos,
    without_held_out,
)

YEARS = ("2014", "2017")  # in order of preference
MAX_BYTES = 2**30  # of an instances file; that of train2014 has 448 MB
EXPECTED = "expected the object with the lists images, annotations and categories that MS-COCO ships"


class Image(msgspec.Struct):
    id: int
    file_name: str


class Annotation(msgspec.Struct):
    image_id: int
    category_id: int


class Category(msgspec.Struct):
    id: int
    name: str


class Instances(msgspec.Struct):
    """The fields of an instances file that are read; the decoder skips segmentations, nine tenths of the file."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


def load_coco(root: Path, labels: LabelSet, quiet: bool = False) -> Source:
    """Read MS-COCO from the folder that holds `annotations/`, the 2014 release or, if it is not there, 2017.

    Args:
        root: holds `annotations/instances_train2014.json`, `instances_val2014.json`, and the photos in `train2014/` and
            `val2014/`, or in folders of these names below `images/`.
        labels: unused; the categories have names.
        quiet: log nothing.

    Raises:
        UsageError: a file or a listed photo is missing, a file is invalid, or an annotation names an unknown image or
            category.
    """
    for year in YEARS:
        training = root / "annotations" / f"instances_train{year}.json"
        if training.is_file():
            held_out = training.with_name(f"instances_val{year}.json")
            training_photos = _load_split(root, training, f"train{year}", quiet)
            if not held_out.is_file():
                return without_held_out(training_photos, held_out, quiet)
            return Source(training_photos, _load_split(root, held_out, f"val{year}", quiet))
    raise UsageError(f"{root}: no annotations/instances_train2014.json in it; {EXPECTED}.")


def _load_split(root: Path, path: Path, split: str, quiet: bool) -> PhotoSet:
    content = _read(path)
    category_names = {category.id: category.name for category in content.categories}
    file_names = {image.id: name_within(image.file_name, path) for image in content.images}
    if len(set(file_names.values())) < len(content.images):
        raise UsageError(f"{path}: lists an image's id or file_name twice; expected each image once.")
    labels: dict[int, set[str]] = {image: set() for image in file_names}
    for number, annotation in enumerate(content.annotations):
        for field, known in (("category_id", category_names), ("image_id", file_names)):
            if (value := getattr(annotation, field)) not in known:
                raise UsageError(
                    f"{path}: annotation {number} has the {field} {value}, which is not among the {len(known):,} that "
                    "the file lists; it is damaged or was edited: fetch it again."
                )
        labels[annotation.image_id].add(category_names[annotation.category_id])
    folder = first_folder(root, split, f"images/{split}")
    found = find_photos(folder)
    require_photos((name for id, name in file_names.items() if labels[id]), found, path, folder, f"{split}.zip")
    by_name = sorted((name, id) for id, name in file_names.items())
    photos = ((found.get(name, folder / name), labels[id]) for name, id in by_name)
    return keep_labelled(f"MS-COCO {split}", photos, Counter(), quiet)


def _read(path: Path) -> Instances:
    content = read_bytes(path, MAX_BYTES, EXPECTED)
    try:
        return msgspec.json.decode(content, type=Instances)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: {error}; {EXPECTED}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is not JSON ({error}), or was cut short: fetch it again.") from error
