"""NUS-WIDE: image lists, Concepts81.txt, and a ground-truth file of 0 and 1 for each concept.

Chua et al., "NUS-WIDE: A Real-World Web Image Database from National University of Singapore", 2009. The ground truth
comes in two layouts, and either will do: `TrainTestLabels/Labels_sky_Train.txt`, whose lines follow
TrainImagelist.txt, or `AllLabels/Labels_sky.txt`, whose lines follow Imagelist.txt. Photos come from Flickr, where many
are gone: those that are not on disk are left out and counted.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import UsageError
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.imaging.labelled_folder import name_within
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.train.datasets.annotations import labelled_only, photos_below, read_lines
from mlzsl.train.datasets.source import Source

CONCEPTS = "Concepts81.txt"
PHOTO_FOLDERS = ("Flickr", "images")  # the archive's own, and a plain one
LONGEST_CONCEPT_LIST = 10_000

Bools = npt.NDArray[np.bool_]


def load_nuswide(root: Path, labels: LabelSet, quiet: bool = False) -> Source:
    """Read NUS-WIDE from the folder of `ImageList/`, `ConceptsList/`, `Groundtruth/` and `Flickr/` or `images/`.

    Text files are found in these folders or in `root` itself.

    Args:
        root: the dataset's folder.
        labels: not needed here: the concepts have names.
        quiet: do not say what was left out.

    Raises:
        UsageError: a file is missing or unfit, or two that belong together have different numbers of lines.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; expected NUS-WIDE with ImageList/ and Groundtruth/.")
    concepts = read_lines(_found(root, "ConceptsList", CONCEPTS), "a concept a line")
    if len(set(concepts)) < len(concepts) or len(concepts) > LONGEST_CONCEPT_LIST:
        raise UsageError(f"{_found(root, 'ConceptsList', CONCEPTS)}: a concept is there twice, or far too many are.")
    for concept in concepts:
        if "/" in name_within(concept, root / CONCEPTS):
            raise UsageError(f"{root / CONCEPTS}: {concept!r} is not the name of a concept; expected one a line.")
    folder = next((root / name for name in PHOTO_FOLDERS if (root / name).is_dir()), root)
    present = photos_below(folder)
    targets_of = _ground_truth(root, concepts)
    return Source(
        *(_load_split(root, split, targets_of(split), concepts, folder, present, quiet) for split in ("Train", "Test"))
    )


def _load_split(
    root: Path,
    split: str,
    targets: tuple[list[str], Bools],
    concepts: list[str],
    folder: Path,
    present: dict[str, Path],
    quiet: bool,
) -> PhotoSet:
    names, carried = targets
    left_out: Counter[str] = Counter()
    taken: dict[Path, frozenset[str]] = {}
    for name, row in zip(names, carried, strict=True):
        path = present.get(name)
        if path is None:
            left_out[f"of the list's photos not in {folder}"] += 1
        elif path in taken:
            left_out["photos listed before"] += 1
        else:
            taken[path] = frozenset(concepts[place] for place in np.flatnonzero(row))
    return labelled_only(f"NUS-WIDE {split}", taken.items(), left_out, quiet)


def _ground_truth(root: Path, concepts: list[str]) -> Callable[[str], tuple[list[str], Bools]]:
    """A function from "Train" or "Test" to the names of its photos and bool [n, concepts]."""
    folders = [root / "Groundtruth" / "TrainTestLabels", root / "TrainTestLabels", root]
    by_split = next((place for place in folders if (place / f"Labels_{concepts[0]}_Train.txt").is_file()), None)
    if by_split is not None:
        return lambda split: _of_files(
            _image_list(root, f"{split}Imagelist.txt"),
            [by_split / f"Labels_{concept}_{split}.txt" for concept in concepts],
        )
    folders = [root / "Groundtruth" / "AllLabels", root / "AllLabels", root]
    of_all = next((place for place in folders if (place / f"Labels_{concepts[0]}.txt").is_file()), None)
    if of_all is None:
        raise UsageError(
            f"{root}: no ground truth: expected Groundtruth/TrainTestLabels/Labels_{concepts[0]}_Train.txt and the "
            f"like, or Groundtruth/AllLabels/Labels_{concepts[0]}.txt and the like."
        )
    names, targets = _of_files(
        _image_list(root, "Imagelist.txt"), [of_all / f"Labels_{concept}.txt" for concept in concepts]
    )
    row_of = {name: row for row, name in enumerate(names)}

    def rows_of(split: str) -> tuple[list[str], Bools]:
        path, chosen = _image_list(root, f"{split}Imagelist.txt")
        strangers = [name for name in chosen if name not in row_of]
        if strangers:
            raise UsageError(
                f"{path}: {len(strangers):,} of its photos are not in Imagelist.txt, first {strangers[0]}."
            )
        return chosen, targets[[row_of[name] for name in chosen]]

    return rows_of


def _of_files(listed: tuple[Path, list[str]], files: list[Path]) -> tuple[list[str], Bools]:
    list_path, names = listed
    targets = np.zeros((len(names), len(files)), np.bool_)
    for column, path in enumerate(files):
        lines = read_lines(path, "a line of 0 or 1 for each photo of the list")
        if len(lines) != len(names):
            raise UsageError(
                f"{path}: {len(lines):,} lines, but {list_path} lists {len(names):,} photos; they belong together "
                "line by line: fetch both again."
            )
        if unfit := next((line for line in lines if line not in ("0", "1")), None):
            raise UsageError(f"{path}: found {unfit[:40]!r}; expected a line of 0 or 1 for each photo of the list.")
        targets[:, column] = np.array(lines) == "1"
    return names, targets


def _image_list(root: Path, name: str) -> tuple[Path, list[str]]:
    path = _found(root, "ImageList", name)
    return path, [name_within(line.replace("\\", "/"), path) for line in read_lines(path, "a photo's name a line")]


def _found(root: Path, folder: str, name: str) -> Path:
    path = next((place / name for place in (root / folder, root) if (place / name).is_file()), None)
    if path is None:
        raise UsageError(f"{root}: no {folder}/{name} in it; expected NUS-WIDE as its archives unpack.")
    return path
