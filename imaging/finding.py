"""Which photos to tag: files, folders, patterns, and lists on standard input, as one stream of paths.

Paths are text as the user typed it; names that are not UTF-8 keep their bytes (`os.fsdecode` escapes them,
`os.fsencode` gives them back).
"""

import glob
import io
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import cast

from mlzsl.cli.errors import UsageError
from mlzsl.imaging import is_image_name

STANDARD_INPUT = "-"
HEIF = (".heic", ".heif", ".hif")
SUFFIXES_SHOWN, LONGEST_SUFFIX = 5, 16
LONGEST_PATH = 4096  # bytes; a list that is separated by NUL has one within as many
BLOCK = 1 << 16


def find_images(
    inputs: Sequence[str | os.PathLike[str]],
    listed: io.BufferedIOBase | None = None,
    skipped: Counter[str] | None = None,
) -> Iterator[str]:
    """Find the photos that inputs stand for, in the order of the inputs.

    - A file is taken whatever its name.
    - A folder stands for the images in it and in its folders, by name: those with an image's suffix, in sorted
      order, hidden ones left out. Links to folders are followed, but not in circles.
    - A pattern (`photos/**/*.jpg`, quoted from the shell) stands for what it matches, sorted.
    - `-` stands for a list of files on standard input, one a line, or separated by NUL bytes as `find -print0`
      does. Whether they exist is found out when they are read.

    The inputs themselves are checked at once, and the first photo is looked for; the rest comes as it is needed.

    Args:
        inputs: what to look in.
        listed: where `-` reads its list; None is standard input.
        passed_over: counts, by suffix, the files in folders that are no images by their names, as they are met.

    Raises:
        UsageError: an input does not exist, a pattern matches nothing, or no image is found.
    """
    if not inputs:
        raise UsageError("no photos were named: name files, folders, quoted patterns, or - for a list.")
    names = [os.fspath(name) for name in inputs]
    if names.count(STANDARD_INPUT) > 1:
        raise UsageError("- stands for standard input, which can be read only once.")
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
        what = ", ".join("standard input" if name == STANDARD_INPUT else name for name in names)
        why = f" ({describe_skipped(others)})" if others else ""
        raise UsageError(f"no image found in {what}{why}; name image files, or a folder that holds some.")
    return _with_first(first, found)


def describe_skipped(others: Counter[str]) -> str:
    """The files that were passed over as one line: "passed over 12 files that are no images …: 10 .heic, 2 .txt"."""
    count = others.total()
    kinds = [f"{number:,} {suffix}" for suffix, number in others.most_common(SUFFIXES_SHOWN)]
    more = [f"{len(others) - SUFFIXES_SHOWN} other suffixes"] if len(others) > SUFFIXES_SHOWN else []
    heif = "; convert HEIF to JPEG to have it tagged" if any(suffix in HEIF for suffix in others) else ""
    return (
        f"passed over {count:,} file{'s' if count > 1 else ''} whose suffix is of no image format read here: "
        f"{', '.join(kinds + more)}{heif}"
    )


def _with_first(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _matches(name: str) -> list[str]:
    """The paths that one input stands for."""
    if os.path.lexists(name):
        return [name]
    if not glob.has_magic(name):
        raise UsageError(f"{name}: no such file or folder.")
    matches = sorted(glob.iglob(name, recursive=True), key=os.fsencode)
    if not matches:
        raise UsageError(f"{name}: the pattern matches nothing.")
    return matches


def _images_under(folder: str, skipped: Counter[str], above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """The images in a folder, then those in its folders; its other files are counted by suffix.

    A folder that cannot be listed is given as if it were a photo: it becomes a record with a reason, not a silence.
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


def shown_suffix(name: str) -> str:
    """A file's suffix in lower case, fit for a terminal."""
    suffix = os.path.splitext(name)[1].lower()
    return ascii(suffix)[1:-1][:LONGEST_SUFFIX] or "without suffix"


def _listed(stream: io.BufferedIOBase) -> Iterator[str]:
    """The paths of a list as it comes, separated by NUL bytes if it holds one, else by line ends."""
    rest = b""
    while len(rest) <= LONGEST_PATH and b"\0" not in rest and (block := stream.read1(BLOCK)):
        rest += block
    separator = b"\0" if b"\0" in rest else b"\n"
    while True:
        *whole, rest = rest.split(separator)
        yield from filter(None, (_path(entry, separator) for entry in whole))
        block = stream.read1(BLOCK)
        if not block:
            break
        rest += block
    yield from filter(None, [_path(rest, separator)])


def _path(entry: bytes, separator: bytes) -> str:
    return os.fsdecode(entry.removesuffix(b"\r") if separator == b"\n" else entry)
