"""The text files that datasets come with, read with bounds: what they name must lie within their folder."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mlzsl.cli.errors import UsageError
from mlzsl.cli.progress import log
from mlzsl.imaging.decoding import is_image_name
from mlzsl.imaging.photoset import PhotoSet

MAX_LIST_BYTES = 64 * 2**20  # of a list of photos or of their targets: over a million lines


def read_lines(path: Path, expected: str) -> list[str]:
    """Read the lines of a text file that are not blank, stripped.

    Args:
        path: at most MAX_LIST_BYTES of UTF-8.
        expected: what should be there, for the sentence.

    Raises:
        UsageError: it cannot be read, is too large or is not UTF-8.
    """
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise UsageError(f"{path}: larger than {MAX_LIST_BYTES // 2**20} MiB; expected {expected}.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); expected {expected}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 (byte {error.start}); expected {expected}.") from error
    return [line.strip() for line in text.split("\n") if line.strip()]


def photos_below(folder: Path) -> dict[str, Path]:
    """The image files in a folder and its subfolders, by their POSIX path below it, in order.

    Raises:
        UsageError: it is no folder, or holds no photo.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; expected the photos of the dataset there.")
    found = {}
    for place, folders, names in os.walk(folder):
        folders.sort()
        inside = Path(place)
        for name in names:
            if is_image_name(inside / name):
                found[(inside / name).relative_to(folder).as_posix()] = inside / name
    if not found:
        raise UsageError(f"{folder}: no photos in this folder; expected the photos of the dataset there.")
    return dict(sorted(found.items()))


def labelled_only(
    name: str, photos: Iterable[tuple[Path, frozenset[str]]], left_out: Counter[str], quiet: bool
) -> PhotoSet:
    """Keep the photos with a label, and say in one line how many there are and what was left out for which reason.

    Args:
        name: of the set.
        photos: files and their labels, in order.
        left_out: how often what was left out before, by reason ("annotations of …"); photos without a label are added.
        quiet: do not say it.

    Raises:
        UsageError: not one photo has a label.
    """
    everything = list(photos)
    kept = [(path, labels) for path, labels in everything if labels]
    left_out["photos without a label"] += len(everything) - len(kept)
    reasons = [f"{count:,} {reason}" for reason, count in left_out.items() if count]
    if not kept:
        raise UsageError(f"{name}: no photo with a label is left ({', '.join(reasons) or 'the list is empty'}).")
    log(f"{name}: {len(kept):,} photos" + (f"; left out: {', '.join(reasons)}" if reasons else ""), quiet)
    return PhotoSet(tuple(path for path, _ in kept), tuple(labels for _, labels in kept), name)
