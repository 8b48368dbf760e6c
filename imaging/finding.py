"""Finding the photos to tag: files, folders, patterns, and lists on standard input, as one stream of paths.

Paths are text as the user typed it; names that are not UTF-8 keep their bytes (`os.fsdecode` escapes them,
`os.fsencode` restores them).
"""

import glob
import io
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import cast

from mlzsl.cli.errors import UsageError
from mlzsl.imaging.decoding import is_image_name

STANDARD_INPUT = "-"
HEIF = (".heic", ".heif", ".hif")
MAX_SUFFIXES, MAX_SUFFIX_LENGTH = 5, 16  # that a sentence names
MAX_PATH = 4096  # bytes; a list that is separated by NUL has one within this many
BLOCK = 1 << 16


def find_images(
    inputs: Sequence[str | os.PathLike[str]],
    listed: io.BufferedIOBase | None = None,
    skipped: Counter[str] | None = None,
) -> Iterator[str]:
    """Find the photos that the inputs name, in the order of the inputs.

    - A file is a photo whatever its name.
    - A folder is searched with its subfolders: files with an image's suffix, sorted, without hidden ones. Links to
      folders are followed, but not in circles.
    - A pattern (`photos/**/*.jpg`, quoted from the shell) names its matches, sorted.
    - `-` reads a list of files from standard input, one a line, or separated by NUL bytes as `find -print0` writes
      it. Whether they exist is checked when they are read.

    The inputs are checked and the first photo is found at once; the others are found as they are needed.

    Args:
        inputs: where to look.
        listed: where `-` reads its list; standard input by default.
        skipped: counts, by suffix, the files in folders that are not images by their names, as they are found.

    Raises:
        UsageError: an input does not exist, a pattern matches nothing, or no image is found.
    """
    if not inputs:
        raise UsageError("no photos were named: name files, folders, quoted patterns, or - for a list.")
    names = [os.fspath(name) for name in inputs]
    if names.count(STANDARD_INPUT) > 1:
        raise UsageError("-: standard input can be read only once; name it once.")
    others = Counter[str]() if skipped is None else skipped
    matches = {name: _matches(name) for name in names if name != STANDARD_INPUT}

    def photos() -> Iterator[str]:
        for name in names:
            if name == STANDARD_INPUT:
                yield from _listed(listed or cast(io.BufferedIOBase, sys.stdin.buffer))
            else:
                for match in matches[name]:
                    yield from _images_under(match, others) if os.path.isdir(match) else [match]

    found = photos()
    first = next(found, None)
    if first is None:
        where = ", ".join("standard input" if name == STANDARD_INPUT else name for name in names)
        why = f" ({describe_skipped(others)})" if others else ""
        raise UsageError(f"no image found in {where}{why}; name image files, or a folder of images.")
    return chain([first], found)


def describe_skipped(others: Counter[str]) -> str:
    """The skipped files as one line: "skipped 12 files that are not images by their suffix: 10 .heic, 2 .txt"."""
    count = others.total()
    kinds = [f"{number:,} {suffix}" for suffix, number in others.most_common(MAX_SUFFIXES)]
    more = [f"{len(others) - MAX_SUFFIXES} other suffixes"] if len(others) > MAX_SUFFIXES else []
    heif = "; convert HEIF to JPEG to tag it" if any(suffix in HEIF for suffix in others) else ""
    files = "file that is not an image by its suffix" if count == 1 else "files that are not images by their suffix"
    return f"skipped {count:,} {files}: {', '.join(kinds + more)}{heif}"


def shown_suffix(name: str) -> str:
    """A file's suffix in lower case, safe for a terminal."""
    suffix = os.path.splitext(name)[1].lower()
    return ascii(suffix)[1:-1][:MAX_SUFFIX_LENGTH] or "without suffix"


def _matches(name: str) -> list[str]:
    """The paths that one input names."""
    if os.path.lexists(name):
        return [name]
    if not glob.has_magic(name):
        raise UsageError(f"{name}: no such file or folder.")
    matches = sorted(glob.iglob(name, recursive=True), key=os.fsencode)
    if not matches:
        raise UsageError(f"{name}: the pattern matches nothing.")
    return matches


def _images_under(folder: str, skipped: Counter[str], above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """The images in a folder, then those in its subfolders; its other files are counted by suffix.

    A folder that cannot be listed is yielded like a photo, so that it gets a record with the reason.
    """
    try:
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        yield folder
        return
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    visible.sort(key=lambda entry: os.fsencode(entry.name))
    folders = []
    for entry in visible:
        if os.path.isdir(entry):
            folders.append(entry.path)
        elif is_image_name(entry.name):
            yield entry.path
        else:
            skipped[shown_suffix(entry.name)] += 1
    for inner in folders:
        yield from _images_under(inner, skipped, (*above, identity))


def _listed(stream: io.BufferedIOBase) -> Iterator[str]:
    """The paths of a list while it is read, separated by NUL bytes if it has one, else by line ends."""
    block = b""
    while len(block) <= MAX_PATH and b"\0" not in block and (more := stream.read1(BLOCK)):
        block += more
    separator = b"\0" if b"\0" in block else b"\n"
    rest = b""
    while block:
        *paths, rest = (rest + block).split(separator)
        yield from filter(None, (_path(path, separator) for path in paths))
        block = stream.read1(BLOCK)
    yield from filter(None, [_path(rest, separator)])


def _path(entry: bytes, separator: bytes) -> str:
    return os.fsdecode(entry.removesuffix(b"\r") if separator == b"\n" else entry)
