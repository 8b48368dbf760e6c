"""Datasets of several lists: NUS-WIDE, Pascal VOC and Open Images; an input holds their files, one of them mutated."""

import csv
import errno
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from fuzz.datasets import NAMES, photo_folder
from fuzz.harness import Parser, expect
from fuzz.mutations import mutate_bytes, mutate_lines

from mlzsl.cli.errors import UsageError
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.train.datasets.nuswide import load_nuswide
from mlzsl.train.datasets.openimages import load_open_images
from mlzsl.train.datasets.source import Source
from mlzsl.train.datasets.voc import load_voc

Files = dict[str, bytes]
Labels = list[list[str]]  # of each photo that has one
START = re.compile(rb"==== ([\w./-]+) ====\n")
PETS = LabelSet("pets", ("dog", "cat"), ("dog.n.01", "cat.n.01"))


def packed(files: Files) -> bytes:
    return b"".join(b"==== %s ====\n%s" % (name.encode(), content) for name, content in files.items())


def unpacked(content: bytes) -> Files:
    parts = START.split(content)[1:]
    return {name.decode(): text for name, text in zip(parts[::2], parts[1::2], strict=True)}


def lines_of(content: bytes) -> list[str]:
    return [line.strip() for line in content.decode("utf-8-sig").split("\n") if line.strip()]


def dataset(
    name: str,
    files: Files,
    photos: str,
    separator: bytes,
    load: Callable[[Path, LabelSet, bool], Source],
    expected: Callable[[Files], Labels],
) -> Parser:
    """The parser of a dataset; `photos` is its folder of photos, and `expected` reads the training labels naively."""

    def mutate(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
        changed = unpacked(content)
        file = random.choice(list(changed))
        lines = mutate_lines(random, changed[file], separator)
        changed[file] = lines if random.random() < 0.6 else mutate_bytes(random, changed[file], list(changed.values()))
        return packed(changed)

    def parse(path: Path) -> PhotoSet:
        root = path.parent / name
        photo_folder(root / photos)
        for file, content in unpacked(path.read_bytes()).items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_bytes(content)
        try:
            return load(root, PETS, True).training
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:  # which the command reports, whatever path it is
                raise UsageError(f"{error.filename}: the file name is too long.") from error
            raise

    def check(content: bytes, found: PhotoSet) -> None:
        expect(sorted(map(sorted, found.labels)), sorted(map(sorted, expected(unpacked(content)))), "labels")

    def past_header(content: bytes, result: Any, error: Exception | None) -> bool:
        return not (error and "is not UTF-8" in str(error))

    return Parser(name, ".lists", "its files are UTF-8", lambda: [packed(files)], mutate, parse, past_header, check)


# ---- NUS-WIDE --------------------------------------------------------------------------------------------------------

NUSWIDE_FILES = {
    "ConceptsList/Concepts81.txt": b"dog\ncat\n",
    "ImageList/TrainImagelist.txt": "1.jpg\nsub\\3.jpg\ngone.jpg\ncafé.jpg\n".encode(),
    "ImageList/TestImagelist.txt": b"2.jpg\n",
    "Groundtruth/TrainTestLabels/Labels_dog_Train.txt": b"1\n1 \n1\n0\n",
    "Groundtruth/TrainTestLabels/Labels_cat_Train.txt": b"0\n1\n1\n1\n",
    "Groundtruth/TrainTestLabels/Labels_dog_Test.txt": b"1\n",
    "Groundtruth/TrainTestLabels/Labels_cat_Test.txt": b"0\n",
}


def nuswide_labels(files: Files) -> Labels:
    concepts = lines_of(files["ConceptsList/Concepts81.txt"])
    columns = [lines_of(files[f"Groundtruth/TrainTestLabels/Labels_{concept}_Train.txt"]) for concept in concepts]
    labels: dict[str, list[str]] = {}
    for name, *row in zip(lines_of(files["ImageList/TrainImagelist.txt"]), *columns, strict=True):
        path = Path(name.replace("\\", "/")).as_posix()
        if path in NAMES:
            labels.setdefault(path, [concept for concept, value in zip(concepts, row, strict=True) if value == "1"])
    return [each for each in labels.values() if each]


# ---- Pascal VOC ------------------------------------------------------------------------------------------------------

MAIN = "VOC2007/ImageSets/Main"
VOC_FILES = {
    f"{MAIN}/trainval.txt": "1\n2\ncafé\n".encode(),
    f"{MAIN}/dog_trainval.txt": "1  1\n2 -1\ncafé 1\n".encode(),
    f"{MAIN}/cat_trainval.txt": "1 -1\n2  1\ncafé 0\n".encode(),
}


def voc_labels(files: Files) -> Labels:
    rows = {name: [line.split() for line in lines_of(files[f"{MAIN}/{name}_trainval.txt"])] for name in ("dog", "cat")}
    count = len(lines_of(files[f"{MAIN}/trainval.txt"]))
    found = [[name for name in rows if rows[name][number][1] == "1"] for number in range(count)]
    return [each for each in found if each]


# ---- Open Images -----------------------------------------------------------------------------------------------------

OPEN_IMAGES_FILES = {
    "oidv6-class-descriptions.csv": b"LabelName,DisplayName\n/m/1,Dog\n/m/2,Cat\n/m/3,Car\n",
    "oidv6-train-annotations-human-imagelabels.csv": (
        "ImageID,Source,LabelName,Confidence\n1,crowd,/m/1,1\n1,crowd,/m/2,0\n2,a,/m/2,0.7\ncafé,b,/m/3,1\n3,c,/m/1,1\n"
        "gone,c,/m/1,1\n"
    ).encode(),
}


def open_images_labels(files: Files) -> Labels:
    descriptions, annotations = (
        [row for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")) if row]
        for content in files.values()
    )
    names = {id: " ".join(name.lower().split()) for id, name in descriptions}
    labels: dict[str, set[str]] = {}
    header = annotations[0]
    for row in annotations[1:]:
        image, id, confidence = (row[header.index(column)] for column in ("ImageID", "LabelName", "Confidence"))
        if image in {Path(name).stem for name in NAMES} and names[id] in PETS.labels and float(confidence) >= 0.5:
            labels.setdefault(image, set()).add(names[id])
    return [list(each) for each in labels.values()]


LISTS = (
    dataset("nuswide", NUSWIDE_FILES, "Flickr", b"_", load_nuswide, nuswide_labels),
    dataset("voc", VOC_FILES, "VOC2007/JPEGImages", b" ", load_voc, voc_labels),
    dataset("open-images", OPEN_IMAGES_FILES, "train", b",", load_open_images, open_images_labels),
)
