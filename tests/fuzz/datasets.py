"""Labelled photos and tables of photos: COCO's instances, labels.json, and Parquet, CSV and TSV files of photos."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pyarrow
from fuzz.harness import Parser, check_sentence, expect
from fuzz.mutations import TEXTS, encoded_json, mutate_bytes, mutate_json, mutate_lines
from pyarrow import parquet

from mlzsl.graph.labels.sets import load_label_set
from mlzsl.imaging.labelled_folder import load_folder
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.runtime.io.inputs import check_table, photos_in_table
from mlzsl.runtime.tags import Photo
from mlzsl.train.datasets.coco import load_coco

NAMES = ("1.jpg", "2.jpg", "sub/3.jpg", "café.jpg")


def photo_folder(root: Path) -> Path:
    """A folder of empty photos beside the input, made once."""
    if not root.exists():
        for name in NAMES:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
    return root


# ---- COCO ------------------------------------------------------------------------------------------------------------


def coco_documents() -> list[Any]:
    images = [{"id": number, "file_name": name, "width": 3} for number, name in enumerate(NAMES, 1)]
    categories = [
        {"id": number, "name": name, "supercategory": "all"} for number, name in enumerate(["dog", "cat", "car"], 1)
    ]
    pairs = ((1, 1), (1, 2), (2, 3), (3, 1), (3, 1))
    annotations = [{"id": i, "image_id": a, "category_id": b, "bbox": [0, 0, 1, 1]} for i, (a, b) in enumerate(pairs)]
    whole = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    text = {
        "images": [{"id": str(image["id"]), "coco_url": f"http://host/{image['file_name']}"} for image in images[:2]],
        "annotations": [{"image_id": "1", "category_id": 2.0}, {"image_id": 2.0, "category_id": "03"}],
        "categories": [{"id": 0, "name": "all", "supercategory": "none"}, *categories],
    }
    return [whole, text]


def parse_coco(path: Path) -> PhotoSet:
    root = path.parent / "coco"
    photo_folder(root / "train2014")
    (root / "annotations").mkdir(exist_ok=True)
    path.replace(root / "annotations" / "instances_train2014.json")
    return load_coco(root, load_label_set("coco80"), quiet=True).training


def check_coco(content: bytes, photos: PhotoSet) -> None:
    """Each photo has the names of its annotations' categories, by ids that are compared as numbers."""

    def key(value: Any) -> str:
        whole = re.fullmatch(r"\s*(-?\d+)(\.0+)?\s*", str(value), re.ASCII)
        return str(int(whole[1])) if whole else value

    text = content.decode("utf-8-sig", "replace")  # msgspec checks neither encoding nor depth of what it skips
    try:
        document = json.loads(text, parse_int=lambda digits: int(digits[:1000]))
    except RecursionError:
        return
    names = {key(each["id"]): each["name"] for each in document["categories"]}
    names = {id: name for id, name in names.items() if not (id == "0" and name == "all")}
    labels: dict[str, set[str]] = {}
    for each in document["annotations"]:
        if key(each["category_id"]) in names:
            labels.setdefault(key(each["image_id"]), set()).add(names[key(each["category_id"])])
    expect(sorted(map(sorted, photos.labels)), sorted(map(sorted, labels.values())), "labels")


COCO = Parser(
    "coco",
    ".json",
    "it is JSON with lists of images, annotations and categories",
    lambda: [json.dumps(document).encode() for document in coco_documents()],
    lambda random, content, others: encoded_json(random, mutate_json(random, json.loads(content))),
    parse_coco,
    lambda content, result, error: not (error and ("is not JSON" in str(error) or "Expected `" in str(error))),
    check_coco,
)


# ---- labels.json -----------------------------------------------------------------------------------------------------


def parse_labels_json(path: Path) -> PhotoSet:
    return load_folder(photo_folder(path.parent / "photos"), path, quiet=True)


def check_labels_json(content: bytes, photos: PhotoSet) -> None:
    document = json.loads(content)
    expect(
        sorted(map(sorted, photos.labels)), sorted(sorted(set(each)) for each in document.values() if each), "labels"
    )


LABELS_JSON = Parser(
    "labels-json",
    ".json",
    "it is an object in JSON",
    lambda: [json.dumps({name: ["dog", "cat"][: 1 + len(name) % 2] for name in NAMES}, ensure_ascii=False).encode()],
    lambda random, content, others: encoded_json(random, mutate_json(random, json.loads(content))),
    parse_labels_json,
    lambda content, result, error: not (error and ("is not JSON" in str(error) or "json: it is" in str(error))),
    check_labels_json,
)


# ---- tables of photos ------------------------------------------------------------------------------------------------


def parquet_tables() -> list[bytes]:
    image = {"bytes": b"\xff\xd8\xff\0", "path": "a.jpg"}
    columns: list[tuple[Any, list[Any]]] = [
        (pyarrow.string(), ["a.jpg", None, "", "é.jpg"] * 20),
        (pyarrow.binary(), [b"a.jpg", b"\xff\xd8\xff\0", None]),
        (
            pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]),
            [image, None, {**image, "path": None}],
        ),
        (pyarrow.large_string(), ["x" * 3000, "b.jpg"]),
        (pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), ["a.jpg", "a.jpg", "b.jpg"]),
    ]
    return [
        as_parquet(pyarrow.table({"path": pyarrow.array(values, kind), "n": [*range(len(values))]}))
        for kind, values in columns
    ]


def as_parquet(table: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(table, stream, **options)
    return stream.getvalue()


def mutate_parquet(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Damage pages or the footer (with the length that it states), or write other values of other types."""
    chance, footer = random.random(), len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    if chance < 0.35:  # the pages
        return content[:4] + mutate_bytes(random, content[4:footer]) + content[footer:]
    if chance < 0.45:  # the footer, with the length that it has
        changed = mutate_bytes(random, content[footer:-8])
        return content[:footer] + changed + len(changed).to_bytes(4, "little") + content[-4:]
    if chance < 0.5:
        return mutate_bytes(random, content, others)
    table = parquet.read_table(io.BytesIO(content))
    for _ in range(random.choice((1, 1, 2))):
        number = random.randrange(table.num_columns)
        values = table.column(number).to_pylist()
        values = [
            random.choice((value, value, None, *TEXTS[:10])) if isinstance(value, str | None) else value
            for value in values
        ]
        odd: list[Any] = [
            [1] * len(values),
            [1.5] * len(values),
            [["a.jpg"]] * len(values),
            [{"bytes": b"", "path": "\0"}] * len(values),
        ]
        name = random.choice((*[table.column_names[number]] * 6, "path", "x", "", "path.a"))
        try:
            column = pyarrow.array(random.choice((values, values, *odd)))
        except (pyarrow.ArrowException, UnicodeEncodeError):
            continue
        match random.randrange(6):
            case 0:
                table = table.append_column(name, column)
            case 1 if table.num_columns > 1:
                table = table.remove_column(number)
            case 2:
                table = table.slice(random.randint(0, 3), random.randint(0, 3))
            case _:
                table = table.set_column(number, name, column)
    return as_parquet(table, compression=random.choice(("none", "snappy", "gzip", "zstd")))


def has_columns(content: bytes, *columns: str) -> bool:
    """Whether the footer of a Parquet file is read and has the columns."""
    try:
        return {*columns} <= {*parquet.read_schema(io.BytesIO(content)).names}
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError):
        return False


def parse_table(path: Path) -> list[Photo]:
    check_table(str(path), "path")
    return list(photos_in_table(str(path), "path"))


def check_table_rows(content: bytes, photos: list[Photo]) -> None:
    """A photo or a problem for each row, or, after a row that cannot be read, the table's problem."""
    for photo in photos:
        if photo.problem is not None:
            check_sentence(photo.problem)
    if not any("cannot be read beyond" in (photo.problem or "") for photo in photos):
        expect(len(photos), parquet.read_metadata(io.BytesIO(content)).num_rows, "rows")


PHOTO_TABLES = Parser(
    "photos-parquet",
    ".parquet",
    "its footer is read and it has the column",
    parquet_tables,
    mutate_parquet,
    parse_table,
    lambda content, result, error: has_columns(content, "path"),
    check_table_rows,
)


def check_csv_rows(content: bytes, photos: list[Photo]) -> None:
    for photo in photos:
        if photo.problem is not None:
            check_sentence(photo.problem)
    if not any("cannot be read beyond" in (photo.problem or "") for photo in photos):
        rows = csv.reader(io.StringIO(content.decode("utf-8-sig", "surrogateescape"), newline=""))
        expect(len(photos), len([row for row in rows if row]) - 1, "rows")


PHOTO_CSV = Parser(
    "photos-csv",
    ".csv",
    "its first line has the column",
    lambda: [b'path,n\na.jpg,1\n"b,c.jpg",2\n\xff.jpg,3\n', b'\xef\xbb\xbfn,path\r\n1,"a\nb.jpg"\r\n\r\n2,\r\n3\r\n'],
    lambda random, content, others: (
        mutate_lines(random, content, b",") if random.random() < 0.5 else mutate_bytes(random, content, others)
    ),
    parse_table,
    lambda content, result, error: error is None,
    check_csv_rows,
)
