"""A folder of photos with a labels.json: {"file name": ["label", ...], ...}."""

import difflib
import os
import unicodedata
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated

from msgspec import Meta

from mlzsl.cli.errors import UsageError
from mlzsl.cli.json_decoding import read_json
from mlzsl.cli.progress import log
from mlzsl.cli.text import MAX_NAMED, first_of
from mlzsl.imaging.decoding import is_image_name
from mlzsl.imaging.finding import Walk
from mlzsl.imaging.photoset import PhotoSet

LABELS = "labels.json"
IMAGES = "images"
MAX_BYTES = 512 * 2**20  # of a labels.json: more than ten million photos
EXAMPLE = 'expected {"photo.jpg": ["dog", "chair"], ...}'

_Label = Annotated[str, Meta(pattern=r"\S", description="a label")]
_Labels = Annotated[frozenset[_Label], Meta(description="a list of labels")]


def load_folder(images: Path, labels: Path | None = None, quiet: bool = False) -> PhotoSet:
    """Load the photos of a folder that have labels, in the order of their names.

    Args:
        images: the folder of photos, or the folder of `images/` and `labels.json`. Photos may be in subfolders;
            labels.json then names them as "sub/photo.jpg".
        labels: the JSON file, an object from file name to list of labels; by default `labels.json` in the folder or,
            failing that, beside it.
        quiet: do not report how many photos have no label; they are left out either way.

    Raises:
        UsageError: the folder is missing or has no photos, labels.json is missing or invalid, or it names a photo that
            is not in the folder.
    """
    if not images.is_dir():
        found = "is a file, not a folder" if images.is_file() else "no such folder"
        raise UsageError(f"{images}: {found}; expected a folder of photos with a {LABELS}.")
    labels_file = labels if labels is not None else _find_labels(images)
    by_name = _read_labels(labels_file)
    if (images / IMAGES).is_dir() and (images / LABELS).is_file():
        images = images / IMAGES
    photos = FolderPhotos(images, labels_file.parent)
    present = {name: path for name in by_name if (path := photos.find(name, labels_file))}
    if missing := [name for name in by_name if name not in present]:
        raise UsageError(
            f"{labels_file}: {len(missing)} of its {len(by_name)} photos are not in {images}: {first_of(missing)}. "
            "Add the photos, or remove their lines."
        )
    labelled = sorted(name for name, its_labels in by_name.items() if its_labels)
    if not labelled:
        raise UsageError(f"{labels_file}: no photo has a label; {EXAMPLE}.")
    paths = tuple(present[name] for name in labelled)
    if len(set(paths)) < len(paths):
        counts = Counter(paths)
        repeated = [name for name, path in zip(labelled, paths, strict=True) if counts[path] > 1]
        raise UsageError(f"{labels_file}: names one photo twice: {first_of(repeated)}; leave out one of them.")
    if without := len(photos.paths) - len(labelled):
        log(
            f"{images}: {without} of {len(photos.paths)} photos have no label in {labels_file}; they are left out",
            quiet,
        )
    return PhotoSet(paths, tuple(by_name[name] for name in labelled), str(images))


def check_labels(photos: PhotoSet, known: Collection[str], ignored: Collection[str] = ()) -> PhotoSet:
    """Check that all labels of the photos are in the label set; the same photos, labels spelled as in the set.

    Args:
        photos: with their labels.
        known: the label set.
        ignored: further labels, which photos may have and which they lose.

    Raises:
        UsageError: some are not; the sentence names the most frequent, with similar known labels.
    """
    photos, kept, dropped = photos.spelled_as((*known, *ignored)), set(known), set(ignored)
    counts = Counter(label for labels in photos.labels for label in sorted(labels - kept - dropped))
    unknown = [label for label, _ in counts.most_common()]
    if unknown:
        names = [*(_with_suggestion(label, known) for label in unknown[:MAX_NAMED]), *unknown[MAX_NAMED:]]
        raise UsageError(
            f"{photos.name}: {len(unknown)} of its labels are not in the label set: {first_of(names)}. "
            "Correct them, or name a label set that has them with --labels."
        )
    return replace(photos, labels=tuple(labels - dropped for labels in photos.labels)) if dropped else photos


class FolderPhotos:
    """The photos below a folder, found by the names that a list gives them.

    Attributes:
        paths: of all photos, by their POSIX path within the folder.
    """

    def __init__(self, folder: Path, *others: Path) -> None:
        """List the photos below `folder`; only single ones are looked up in the folders `others`.

        Raises:
            UsageError: a folder is missing or cannot be listed, or there is no photo.
        """
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder; expected the photos of the dataset there.")
        found = list(Walk().images(str(folder)))
        if unlisted := [path for path in found if not is_image_name(path)]:
            raise UsageError(f"{unlisted[0]}: the folder cannot be read; give yourself permission to list it.")
        if not found:
            raise UsageError(f"{folder}: no photos in this folder; expected JPEG, PNG, WebP or similar files.")
        self.paths = {Path(path).relative_to(folder).as_posix(): Path(path) for path in sorted(found)}
        self._folders = (folder, *others)
        self._composed = {_composed(name): path for name, path in self.paths.items() if not name.isascii()}

    def find(self, name: str, listed: Path) -> Path | None:
        """The photo of a name as it is written or with `/` for its `\\`, in any Unicode form; None if there is none.

        Raises:
            UsageError: the name is empty or leads out of the folder; `listed` is the file that names it.
        """
        for spelled in dict.fromkeys((name_within(name, listed), name_within(name.replace("\\", "/"), listed))):
            if path := self.paths.get(spelled) or self._composed.get(_composed(spelled)):
                return path
            for folder in self._folders:  # a link to another photo, or a photo without an image's suffix
                if os.path.isfile(folder / spelled):
                    return folder / spelled
        return None


def name_within(name: str, path: Path) -> str:
    """A photo's name as a POSIX path below the dataset's folder.

    Raises:
        UsageError: it is empty, absolute or leads out of the folder; `path` is the file that names it.
    """
    pure = PurePosixPath(name)
    if pure.is_absolute() or PureWindowsPath(name).is_absolute() or ".." in pure.parts or not name or "\0" in name:
        raise UsageError(f"{path}: the name {name!r} leads out of the folder; expected names within it.")
    return pure.as_posix()


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _find_labels(images: Path) -> Path:
    for folder in (images, images.absolute().parent):
        if (folder / LABELS).is_file():
            return folder / LABELS
    raise UsageError(f"{images}: no {LABELS} in it or beside it; {EXAMPLE}.")


def _read_labels(path: Path) -> dict[str, frozenset[str]]:
    labels = read_json(path, dict[str, _Labels], EXAMPLE, MAX_BYTES, unique_keys=True)
    if not labels:
        raise UsageError(f"{path}: is an empty object; {EXAMPLE}.")
    return {name_within(name, path): its_labels for name, its_labels in labels.items()}


def _with_suggestion(label: str, known: Collection[str]) -> str:
    similar = difflib.get_close_matches(label.lower(), known, 1, cutoff=0.6)
    return f"{label!r} (did you mean {similar[0]!r}?)" if similar else repr(label)
