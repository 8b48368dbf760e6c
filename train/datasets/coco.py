"""MS-COCO and what is exported in its format: instances files beside folders of photos, LVIS, Roboflow.

Lin et al., "Microsoft COCO: Common Objects in Context", 2014. The labels of a photo are the categories of its
instances, crowds included. Photos of train2014 are for training, those of val2014 held out, as in the paper
(section 4.1).
"""

import codecs
import functools
import re
from collections import Counter
from collections.abc import Collection, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec

from mlzsl.cli.errors import UsageError
from mlzsl.cli.inputs import read_bytes
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.imaging.labelled_folder import FolderPhotos
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.train.datasets.source import Source, first_folder, keep_labelled, require_photos, without_held_out

# The file and the folder of the training photos, then those of held-out ones; the first that exist count.
LAYOUTS = (
    (("annotations/instances_train2014.json", "train2014"), ("annotations/instances_val2014.json", "val2014")),
    (("annotations/instances_train2017.json", "train2017"), ("annotations/instances_val2017.json", "val2017")),
    (("annotations/lvis_v1_train.json", "train2017"), ("annotations/lvis_v1_val.json", "val2017")),
    (("lvis_v1_train.json", "train2017"), ("lvis_v1_val.json", "val2017")),
    (("train/_annotations.coco.json", "train"), ("test/_annotations.coco.json", "test"),
     ("valid/_annotations.coco.json", "valid")),
)  # fmt: skip
MAX_BYTES = 2**30  # of an instances file; that of train2014 has 448 MB
EXPECTED = "expected the object with the lists images, annotations and categories that MS-COCO ships"
INTEGER = re.compile(r"\s*(-?\d{1,1000})(\.0+)?\s*", re.ASCII)
EXACT = 2**53  # a float beyond it may have been another integer
NOT_A_NUMBER = re.compile(rb"[\[:,]\s*(NaN|-?Infinity)\b")  # which Python writes, and JSON does not have


class Image(msgspec.Struct):
    id: msgspec.Raw
    file_name: str | None = None
    coco_url: str | None = None  # LVIS has no file_name


class Annotation(msgspec.Struct):
    image_id: msgspec.Raw
    category_id: msgspec.Raw


class Category(msgspec.Struct):
    id: msgspec.Raw
    name: str
    supercategory: str | None = None

    def is_root(self, parents: Collection[str | None]) -> bool:
        """Whether it is the category that Roboflow puts above the others; it is no label."""
        return self.supercategory == "none" != self.name and self.name in parents


class Instances(msgspec.Struct):
    """The fields of an instances file that are read; the decoder skips segmentations, nine tenths of the file."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


def load_coco(root: Path, labels: LabelSet, quiet: bool = False) -> Source:
    """Read MS-COCO from the folder that holds `annotations/`, the first of LAYOUTS that is there.

    Args:
        root: holds `annotations/instances_train2014.json`, `instances_val2014.json`, and the photos in `train2014/` and
            `val2014/`, or in folders of these names below `images/`; or the same of 2017; or `lvis_v1_train.json` and
            `lvis_v1_val.json`, there or in `annotations/`, and the photos of 2017; or Roboflow's folders `train/`,
            `valid/` and `test/` with an `_annotations.coco.json` in each.
        labels: unused; the categories have names.
        quiet: log nothing.

    Raises:
        UsageError: a file or a listed photo is missing, a file is invalid, or an annotation names an unknown image or
            category.
    """
    for training, *others in LAYOUTS:
        if not (root / training[0]).is_file():
            continue
        photos = _load_split(root, *training, quiet)
        held_out = next((other for other in others if (root / other[0]).is_file()), None)
        if held_out is None:
            return without_held_out(photos, root / others[0][0], quiet)
        return Source(photos, _load_split(root, *held_out, quiet))
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; expected MS-COCO, or a dataset in its format.")
    raise UsageError(f"{root}: expected one of {', '.join(training[0] for training, *_ in LAYOUTS)} in it, found none.")


def _load_split(root: Path, file: str, split: str, quiet: bool) -> PhotoSet:
    path = root / file
    content = _read(path)
    image_ids = _parse_ids(path, "images", "id", content.images)
    category_ids = _parse_ids(path, "categories", "id", content.categories)
    file_names = {id: _file_name(image, path, id) for id, image in zip(image_ids, content.images, strict=True)}
    if len(set(file_names.values())) < len(content.images):
        raise UsageError(f"{path}: lists an image's id or file_name twice; expected each image once.")
    categories = dict(zip(category_ids, content.categories, strict=True))
    if len(categories) < len(content.categories):
        raise UsageError(f"{path}: lists a category's id twice; expected each category once.")
    parents = {category.supercategory for category in content.categories}
    root_category = 0 if 0 in categories and categories[0].is_root(parents) else None
    labels: dict[int | str, set[str]] = {image: set() for image in file_names}
    of_category = _parse_ids(path, "annotations", "category_id", content.annotations, categories)
    of_image = _parse_ids(path, "annotations", "image_id", content.annotations, file_names)
    skipped: Counter[str] = Counter()
    for category, image in zip(of_category, of_image, strict=True):
        if category == root_category:
            skipped["annotations of the root category"] += 1
        else:
            labels[image].add(categories[category].name)
    folder = first_folder(root, split, f"images/{split}")
    photos = FolderPhotos(folder, *(folder.with_name(name) for name in ("train2017", "val2017")), root)
    by_name = sorted((name, id) for id, name in file_names.items() if labels[id])
    found = require_photos({name: photos.find(name, path) for name, _ in by_name}, path, folder, f"{split}.zip")
    skipped["photos without a label"] = len(file_names) - len(by_name)
    return keep_labelled(f"MS-COCO {split}", ((found[name], labels[id]) for name, id in by_name), skipped, quiet)


def _parse_ids(
    path: Path, rows: str, field: str, values: Sequence[msgspec.Struct], known: Collection[int | str] | None = None
) -> list[int | str]:
    """A field of all rows as ids, which exporters write as 1, 1.0, "1" or any text; `known` are the valid ones."""
    parse = functools.cache(_parse_id)
    ids = []
    for row, value in enumerate(values):
        raw = bytes(getattr(value, field))
        if (id := parse(raw)) is None:
            found = raw[:40].decode(errors="replace")
            raise UsageError(
                f"{path}: {rows}[{row}].{field} is {found}, not a whole number (as a float at most 2^53, beyond which "
                f"digits are lost) or text; {EXPECTED}."
            )
        if known is not None and id not in known:
            raise UsageError(
                f"{path}: annotation {row} has the {field} {str(id)[:40]}, which is not among the {len(known):,} that "
                "the file lists; it is damaged or was edited: fetch it again."
            )
        ids.append(id)
    return ids


def _parse_id(raw: bytes) -> int | str | None:
    """An id; 1, 1.0, 1e0, "1" and "01.0" are the same. None is no id, or a float that may have lost digits."""
    is_text = raw.startswith(b'"')
    try:
        text = msgspec.json.decode(raw, type=str) if is_text else raw.decode()
        integer = INTEGER.fullmatch(text)
        if integer and (integer[2] is None or abs(int(integer[1])) <= EXACT):
            return int(integer[1])
        if is_text:
            return text
        number = Decimal(text)  # as R writes 1e+05
        return int(number) if abs(number) <= EXACT and number == number.to_integral_value() else None
    except (ValueError, ArithmeticError):  # no number at all, or beyond what Decimal holds
        return None


def _file_name(image: Image, path: Path, id: int | str) -> str:
    name = image.file_name or (image.coco_url or "").rpartition("/")[2]
    if not name:
        raise UsageError(f"{path}: image {str(id)[:40]} has neither a file_name nor a coco_url; {EXPECTED}.")
    return name


def _read(path: Path) -> Instances:
    content = read_bytes(path, MAX_BYTES, EXPECTED)
    try:
        return msgspec.json.decode(content.removeprefix(codecs.BOM_UTF8), type=Instances)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: {error}; {EXPECTED}.") from error
    except (ValueError, RecursionError) as error:
        if found := NOT_A_NUMBER.search(content):
            line = content.count(b"\n", 0, found.start(1)) + 1
            raise UsageError(f"{path}, line {line}: has {found[1].decode()}, which is no JSON; write null.") from error
        raise UsageError(f"{path}: is not JSON in UTF-8 ({error}), or was cut short: fetch it again.") from error
