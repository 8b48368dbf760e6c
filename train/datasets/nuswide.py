"""NUS-WIDE: image lists, Concepts81.txt, and a file of 0 and 1 for each concept.

Chua et al., "NUS-WIDE: A Real-World Web Image Database from National University of Singapore", 2009. The targets come
in two layouts, and either is read: `TrainTestLabels/Labels_sky_Train.txt`, whose lines follow TrainImagelist.txt, or
`AllLabels/Labels_sky.txt`, whose lines follow Imagelist.txt. Photos come from Flickr, where many no longer exist: those
that are not on disk are skipped and counted.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import UsageError
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.imaging.labelled_folder import FolderPhotos, name_within
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.train.datasets.source import Source, first_folder, keep_labelled, read_lines

SPLITS = ("Train", "Test")
MAX_CONCEPTS = 10_000

Bools = npt.NDArray[np.bool_]


def load_nuswide(root: Path, labels: LabelSet, quiet: bool = False) -> Source:
    """Read NUS-WIDE from the folder of `ImageList/`, `ConceptsList/`, `Groundtruth/` and `Flickr/` or `images/`.

    Text files may also lie in `root` itself.

    Args:
        root: the dataset's folder.
        labels: unused; the concepts have names.
        quiet: log nothing.

    Raises:
        UsageError: a file is missing or invalid, or a file of targets and its image list differ in length.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; expected NUS-WIDE with ImageList/ and Groundtruth/.")
    path = _find(root, "ConceptsList", "Concepts81.txt")
    concepts = read_lines(path, "a concept per line")
    if not concepts or len(set(concepts)) < len(concepts) or len(concepts) > MAX_CONCEPTS:
        raise UsageError(f"{path}: lists none, one twice, or over {MAX_CONCEPTS:,} concepts; expected each of 81 once.")
    for concept in concepts:
        if "/" in name_within(concept, path):
            raise UsageError(f"{path}: {concept!r} is not the name of a concept; expected one per line.")
    folder = first_folder(root, "Flickr", "images", ".")
    found = FolderPhotos(folder)
    targets = _read_targets(root, concepts)
    return Source(*(_load_split(split, *targets[split], concepts, folder, found, quiet) for split in SPLITS))


def _load_split(
    split: str,
    names: list[str],
    targets: Bools,
    concepts: list[str],
    folder: Path,
    found: FolderPhotos,
    quiet: bool,
) -> PhotoSet:
    skipped: Counter[str] = Counter()
    photos: dict[Path, list[str]] = {}
    for name, row in zip(names, targets, strict=True):
        if (path := found.find(name, folder)) is None:
            skipped[f"of the list's photos not in {folder}"] += 1
        elif path in photos:
            skipped["photos listed before"] += 1
        else:
            photos[path] = [concepts[index] for index in np.flatnonzero(row)]
    return keep_labelled(f"NUS-WIDE {split}", photos.items(), skipped, quiet)


def _read_targets(root: Path, concepts: list[str]) -> dict[str, tuple[list[str], Bools]]:
    """The photos' names and bool [n, concepts] of each of SPLITS."""
    first = f"Labels_{concepts[0]}"
    lists = {split: _image_list(root, f"{split}Imagelist.txt") for split in SPLITS}
    if by_split := _folder_with(root, f"{first}_Train.txt", "Groundtruth/TrainTestLabels", "TrainTestLabels", "."):
        return {
            split: (names, _read_files(path, names, [by_split / f"Labels_{each}_{split}.txt" for each in concepts]))
            for split, (path, names) in lists.items()
        }
    if not (folder := _folder_with(root, f"{first}.txt", "Groundtruth/AllLabels", "AllLabels", ".")):
        raise UsageError(
            f"{root}: no targets found; expected Groundtruth/TrainTestLabels/{first}_Train.txt and so on, or "
            f"Groundtruth/AllLabels/{first}.txt and so on."
        )
    all_path, all_names = _image_list(root, "Imagelist.txt")
    all_targets = _read_files(all_path, all_names, [folder / f"Labels_{concept}.txt" for concept in concepts])
    row_of = {name: row for row, name in enumerate(all_names)}
    for path, names in lists.values():
        if unknown := [name for name in names if name not in row_of]:
            raise UsageError(f"{path}: {len(unknown):,} of its photos are not in {all_path.name}, first {unknown[0]}.")
    return {split: (names, all_targets[[row_of[name] for name in names]]) for split, (_, names) in lists.items()}


def _read_files(listed: Path, names: list[str], files: list[Path]) -> Bools:
    """Read a file of 0 and 1 per concept into bool [n, concepts]."""
    targets = np.zeros((len(names), len(files)), np.bool_)
    for column, path in enumerate(files):
        lines = read_lines(path, "a line of 0 or 1 for each photo of the list")
        if len(lines) != len(names):
            raise UsageError(
                f"{path}: {len(lines):,} lines, but {listed} lists {len(names):,} photos; expected a line for each, in "
                "the same order: fetch both again."
            )
        if invalid := next((line for line in lines if line not in ("0", "1")), None):
            raise UsageError(f"{path}: found {invalid[:40]!r}; expected a line of 0 or 1 for each photo of the list.")
        targets[:, column] = np.array(lines) == "1"
    return targets


def _image_list(root: Path, name: str) -> tuple[Path, list[str]]:
    path = _find(root, "ImageList", name)
    return path, [name_within(line.replace("\\", "/"), path) for line in read_lines(path, "a photo's name per line")]


def _folder_with(root: Path, name: str, *folders: str) -> Path | None:
    return next((root / folder for folder in folders if (root / folder / name).is_file()), None)


def _find(root: Path, folder: str, name: str) -> Path:
    if not (found := _folder_with(root, name, folder, ".")):
        raise UsageError(f"{root}: no {folder}/{name} in it; expected NUS-WIDE as its archives unpack.")
    return found / name
