"""MS-COCO: annotations/instances_train2014.json and instances_val2014.json beside the folders train2014 and val2014.

Lin et al., "Microsoft COCO: Common Objects in Context", 2014. A photo carries the category of each of its instances,
crowds included. Training photos are those of train2014, held-out ones those of val2014, as in the paper (section 4.1).
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import UsageError
from mlzsl.cli.text import first_of
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.imaging.labelled_folder import name_within
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.train.datasets.annotations import labelled_only, photos_below
from mlzsl.train.datasets.source import Source, without_held_out

YEARS = ("2014", "2017")  # the first whose training annotations are there
MAX_BYTES = 2**30  # of an instances file; that of train2014 has 448 MB
EXPECTED = "expected the object of lists images, annotations and categories that MS-COCO ships"
KEPT = {"images", "annotations", "categories", "id", "file_name", "image_id", "category_id", "name"}


def load_coco(root: Path, labels: LabelSet, quiet: bool = False) -> Source:
    """Read MS-COCO from the folder that holds `annotations/`, the 2014 release or, failing that, 2017.

    Args:
        root: holds `annotations/instances_train2014.json`, `instances_val2014.json`, and the photos in `train2014/` and
            `val2014/`, or in folders of these names below `images/`.
        labels: not needed here: the categories have names.
        quiet: do not say what was left out.

    Raises:
        UsageError: a file is missing or unfit; an annotation names an image or category that is not there; a photo
            that is named is missing.
    """
    for year in YEARS:
        training = root / "annotations" / f"instances_train{year}.json"
        if training.is_file():
            held_out = training.with_name(f"instances_val{year}.json")
            trained = _load_split(root, training, f"train{year}", quiet)
            if not held_out.is_file():
                return without_held_out(trained, held_out, quiet)
            return Source(trained, _load_split(root, held_out, f"val{year}", quiet))
    raise UsageError(f"{root}: no annotations/instances_train2014.json in it; {EXPECTED}.")


def _load_split(root: Path, instances: Path, split: str, quiet: bool) -> PhotoSet:
    content = _read(instances)
    category_names = {row["id"]: row["name"] for row in content["categories"]}
    file_names = {row["id"]: name_within(row["file_name"], instances) for row in content["images"]}
    if len(set(file_names.values())) < len(content["images"]):
        raise UsageError(f"{instances}: an image's id or file_name is there twice; expected each image once.")
    carried: dict[int, set[str]] = {image: set() for image in file_names}
    for number, row in enumerate(content["annotations"]):
        if row["category_id"] not in category_names:
            raise UsageError(
                f"{instances}: annotation {number} has the category_id {row['category_id']}, which is not among its "
                f"{len(category_names)} categories; the file is damaged or was edited: fetch it again."
            )
        if row["image_id"] not in carried:
            raise UsageError(
                f"{instances}: annotation {number} has the image_id {row['image_id']}, which is not among its "
                f"{len(carried):,} images; the file is damaged or was edited: fetch it again."
            )
        carried[row["image_id"]].add(category_names[row["category_id"]])
    folder = next((place for place in (root / split, root / "images" / split) if place.is_dir()), root / split)
    present = photos_below(folder)
    missing = sorted(name for image, name in file_names.items() if carried[image] and name not in present)
    if missing:
        raise UsageError(
            f"{instances}: {len(missing):,} of its {len(file_names):,} photos are not in {folder}: "
            f"{first_of(missing)}. Unpack {split}.zip there again."
        )
    by_name = sorted((name, image) for image, name in file_names.items())
    photos = ((present.get(name, folder / name), frozenset(carried[image])) for name, image in by_name)
    return labelled_only(f"MS-COCO {split}", photos, Counter(), quiet)


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path}: larger than {MAX_BYTES // 2**20} MiB; {EXPECTED}.")
        content = json.loads(path.read_bytes(), object_pairs_hook=_needed, parse_float=lambda _: 0)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); {EXPECTED}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON ({error}); it may be cut short: fetch it again.") from error
    fields: dict[str, dict[str, type]] = {
        "images": {"id": int, "file_name": str},
        "annotations": {"image_id": int, "category_id": int},
        "categories": {"id": int, "name": str},
    }
    for name, kinds in fields.items():
        rows = content.get(name) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise UsageError(f"{path}: no list {name!r} in it; {EXPECTED}.")
        for number, row in enumerate(rows):
            if not isinstance(row, dict) or any(type(row.get(key)) is not kind for key, kind in kinds.items()):
                raise UsageError(f"{path}: entry {number} of {name} lacks {' or '.join(kinds)}; {EXPECTED}.")
    return content


def _needed(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Without the outlines of objects, which are nine tenths of the file and would take gigabytes."""
    return {name: value for name, value in pairs if name in KEPT}
