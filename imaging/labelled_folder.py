"""A folder of photos with a labels.json: {"file name": ["label", ...], ...}."""

import difflib
import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

from mlzsl.cli.errors import UsageError
from mlzsl.cli.progress import log
from mlzsl.cli.text import NAMED, first_of
from mlzsl.imaging.decoding import is_image_name
from mlzsl.imaging.photoset import PhotoSet

LABELS = "labels.json"
IMAGES = "images"
MAX_BYTES = 512 * 2**20  # of a labels.json: more than ten million photos
EXAMPLE = 'expected {"photo.jpg": ["dog", "chair"], ...}'


def load_folder(images: Path, labels: Path | None = None, quiet: bool = False) -> PhotoSet:
    """Read the photos of a folder that have labels, in the order of their names.

    Args:
        images: the folder of photos, or the folder that holds `images/` and `labels.json`. Photos may lie in
            subfolders; labels.json then names them as "sub/photo.jpg".
        labels: the JSON file, an object from file name to list of labels; by default `labels.json` in the folder or,
            failing that, beside it.
        quiet: do not say how many photos have no label. They are left out either way.

    Raises:
        UsageError: no such folder, no photos, no labels.json or an unfit one, or a name in it without a photo.
    """
    if not images.is_dir():
        found = "is a file, not a folder" if images.is_file() else "no such folder"
        raise UsageError(f"{images}: {found}; expected a folder of photos with a {LABELS}.")
    labels_file = labels if labels is not None else _find_labels(images)
    by_name = _read_labels(labels_file)
    present = _photos(images)
    missing = [name for name in by_name if name not in present]
    if missing:
        raise UsageError(
            f"{labels_file}: {len(missing)} of its {len(by_name)} photos are not in {images}: {first_of(missing)}. "
            "Add the photos, or take their lines out."
        )
    labelled = sorted(name for name, its_labels in by_name.items() if its_labels)
    if not labelled:
        raise UsageError(f"{labels_file}: no photo has a label; {EXAMPLE}.")
    if without := len(present) - len(labelled):
        log(f"{images}: {without} of {len(present)} photos have no label in {labels_file} and are left out", quiet)
    return PhotoSet(tuple(present[name] for name in labelled), tuple(by_name[name] for name in labelled), str(images))


def check_labels(photos: PhotoSet, known: Collection[str]) -> None:
    """Check that all labels of the photos are in the label set.

    Raises:
        UsageError: some are not; the sentence names the most frequent and the nearest known ones.
    """
    strangers = Counter(label for labels in photos.labels for label in labels if label not in known)
    if strangers:
        shown = [_with_nearest(label, known) for label, _ in strangers.most_common(NAMED)]
        more = f" and {len(strangers) - NAMED} more" * (len(strangers) > NAMED)
        raise UsageError(
            f"{photos.name}: {len(strangers)} of its labels are not in the label set: {', '.join(shown)}{more}. "
            "Correct them, or give a label set that has them with --labels."
        )


def name_within(name: str, path: Path) -> str:
    """A photo's name as a POSIX path below the dataset's folder.

    Raises:
        UsageError: it is empty, absolute or leads upwards; `path` is the file that names it.
    """
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or not name or "\0" in name:
        raise UsageError(f"{path}: the name {name!r} leads out of the folder; expected names within it.")
    return pure.as_posix()


def _find_labels(images: Path) -> Path:
    for place in (images, images.absolute().parent):
        if (place / LABELS).is_file():
            return place / LABELS
    raise UsageError(f"{images}: no {LABELS} in it or beside it; {EXAMPLE}.")


def _photos(images: Path) -> dict[str, Path]:
    """The photos below the folder, by the names that labels.json gives them; those of `images/` by their own name."""
    try:
        paths = sorted(path for path in images.rglob("*") if is_image_name(path) and path.is_file())
    except OSError as error:
        raise UsageError(f"{images}: the folder cannot be read ({error.strerror}).") from error
    if not paths:
        raise UsageError(f"{images}: no photos in this folder; expected JPEG, PNG, WebP or the like.")
    if (images / IMAGES).is_dir() and (images / LABELS).is_file():
        paths = [path for path in paths if path.is_relative_to(images / IMAGES)]
        images = images / IMAGES
    return {path.relative_to(images).as_posix(): path for path in paths}


def _read_labels(path: Path) -> dict[str, frozenset[str]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path}: larger than {MAX_BYTES // 2**20} MiB; {EXAMPLE}.")
        content = json.loads(path.read_bytes(), object_pairs_hook=lambda pairs: _without_repeats(pairs, path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); {EXAMPLE}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON ({error}); {EXAMPLE}.") from error
    if not isinstance(content, dict) or not content:
        found = "an empty object" if content == {} else f"a {type(content).__name__}"
        raise UsageError(f"{path}: {found}; {EXAMPLE}.")
    return {name_within(name, path): _checked_labels(labels, name, path) for name, labels in content.items()}


def _without_repeats(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    repeated = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
    if repeated:
        raise UsageError(f"{path}: {first_of(repeated)} is there twice; give each photo one list of labels.")
    return dict(pairs)


def _checked_labels(labels: Any, name: str, path: Path) -> frozenset[str]:
    if not isinstance(labels, list) or not all(isinstance(label, str) and label.strip() for label in labels):
        raise UsageError(f"{path}: {name!r} has {json.dumps(labels)[:60]}, not a list of labels; {EXAMPLE}.")
    return frozenset(labels)


def _with_nearest(label: str, known: Collection[str]) -> str:
    nearest = difflib.get_close_matches(label.lower(), known, 1, cutoff=0.6)
    return f"{label!r} (did you mean {nearest[0]!r}?)" if nearest else repr(label)
