"""Finding the photos to tag: files, folders, patterns, and lists on standard input, as one stream of paths.

Paths are text as the user typed it; names that are not UTF-8 keep their bytes (`os.fsdecode` escapes them,
`os.fsencode` restores them).
"""

import codecs
import functools
import glob
import io
import os
import re
import stat
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import cast

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.inputs import encoding_by_mark
from mlzsl.imaging.decoding import is_image_name
from mlzsl.imaging.errors import TransientReadError
from mlzsl.imaging.transient import retried, transient_error

STANDARD_INPUT = "-"
MAX_SUFFIXES, MAX_SUFFIX_LENGTH = 5, 16  # that a sentence names
MAX_PATH = 4096  # bytes; a list that is separated by NUL has one within this many
BLOCK = 1 << 16
DOUBLE_STAR = re.compile(r"(?:^|(?<=/))(?:\*\*/+)*\*\*(?:/+|$)")


def find_images(
    inputs: Sequence[str | os.PathLike[str]],
    listed: io.BufferedIOBase | None = None,
    skipped: Counter[str] | None = None,
) -> Iterator[str]:
    """Find the photos that the inputs name, in the order of the inputs.

    - A file is a photo whatever its name.
    - A folder is searched with its subfolders: files with an image's suffix, sorted, without hidden ones. Links to
      folders are followed, after the folders themselves.
    - A pattern (`photos/**/*.jpg`, quoted from the shell) names its matches, sorted.
    - `-` reads a list of files from standard input, one a line, or separated by NUL bytes as `find -print0` writes
      it; a UTF-8 byte-order mark is skipped. Whether they exist is checked when they are read.

    A file that several inputs, patterns or links name is found once, at its first mention. A list and its
    repetitions are kept as they are.

    The inputs are checked and the first photo is found at once; the others are found as they are needed.

    Args:
        inputs: where to look.
        listed: where `-` reads its list; standard input by default.
        skipped: counts, by suffix, the files in folders that are not images by their names, as they are found.

    Raises:
        UsageError: an input does not exist, a pattern matches nothing, or no image is found.
        FailureError: the machine failed while a folder was listed.
    """
    if not inputs:
        raise UsageError("no photos were named: name files, folders, quoted patterns, or - for a list.")
    names = [os.fspath(name) for name in inputs]
    if names.count(STANDARD_INPUT) > 1:
        raise UsageError("-: standard input can be read only once; name it once.")
    others = Counter[str]() if skipped is None else skipped
    matches = {name: _matches(name) for name in names if name != STANDARD_INPUT}
    walk = Walk(others)

    def photos() -> Iterator[str]:
        for name in names:
            if name == STANDARD_INPUT:
                yield from read_list(listed or cast(io.BufferedIOBase, sys.stdin.buffer))
            else:
                for match in matches[name]:
                    yield from walk.images(match)

    found = photos()
    first = next(found, None)
    if first is None:
        where = ", ".join("standard input" if name == STANDARD_INPUT else name for name in names)
        why = f" ({describe_skipped(others)})" if others else ""
        raise UsageError(f"no image found in {where}{why}; name image files, or a folder of images.")
    return chain([first], found)


class Walk:
    """A search of files and folders that gives every file once, whatever links lead to it.

    It remembers the folders that it listed, but of files only those that were named or linked to.
    """

    def __init__(self, skipped: Counter[str] | None = None) -> None:
        self._skipped = Counter[str]() if skipped is None else skipped
        self._listed, self._named = set[str](), set[str]()  # the real paths of folders and of files
        self._real = functools.lru_cache(1024)(os.path.realpath)

    def images(self, path: str) -> Iterator[str]:
        """Yield a file, or the images in a folder and its subfolders, without those found before.

        A folder that cannot be listed is yielded like a photo, so that it gets a record with the reason.
        """
        try:
            mode = os.lstat(path).st_mode
        except (OSError, ValueError):
            mode = 0
        if stat.S_ISDIR(mode) or (stat.S_ISLNK(mode) and os.path.isdir(path)):
            for folder, real, entries in self.folders(path):
                yield from [folder] if entries is None else self._images_of(real, entries)
        elif self._is_new(path, stat.S_ISLNK(mode)):
            yield path

    def folders(self, folder: str) -> Iterator[tuple[str, str, list[os.DirEntry[str]] | None]]:
        """Yield each folder from `folder` down once: its path, its real path, and its visible files, sorted.

        The files are None if the folder cannot be listed. Links to folders are followed last, so that photos keep the
        names of the folders that hold them.

        Raises:
            FailureError: the machine failed while a folder was listed.
        """
        stack, links = [(folder, os.path.realpath(folder))], deque[str]()
        while stack or links:
            path, real = stack.pop() if stack else (links[0], os.path.realpath(links.popleft()))
            if real in self._listed:
                continue
            try:
                visible = retried(functools.partial(_visible, path))
            except TransientReadError as error:
                raise FailureError(f"{path}: the folder could not be listed: {error}. Try again.") from error
            except OSError:
                yield path, real, None
                continue
            self._listed.add(real)
            files, folders = list[os.DirEntry[str]](), list[str]()
            for entry in sorted(visible, key=lambda entry: os.fsencode(entry.name)):
                if entry.is_symlink() and os.path.isdir(entry):  # only links cost a stat
                    links.append(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                else:
                    files.append(entry)
            stack += ((os.path.join(path, name), os.path.join(real, name)) for name in reversed(folders))
            yield path, real, files

    def _images_of(self, folder: str, entries: list[os.DirEntry[str]]) -> Iterator[str]:
        for entry in entries:
            if not is_image_name(entry.name):
                self._skipped[shown_suffix(entry.name)] += 1
            elif entry.is_symlink():
                yield from [entry.path] if self._is_new(entry.path, link=True) else []
            elif not self._named or os.path.join(folder, entry.name) not in self._named:
                yield entry.path

    def _is_new(self, path: str, link: bool) -> bool:
        """Whether a file that is named or linked to was not found before; it is from now on."""
        folder, name = os.path.split(os.path.realpath(path) if link else path)
        folder = self._real(folder)
        real = os.path.join(folder, name)
        listed = folder in self._listed and is_image_name(name) and (not link or os.path.exists(real))
        if listed or real in self._named:
            return False
        self._named.add(real)
        return True


def _visible(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        if transient := transient_error(error):
            raise transient from error
        raise


def describe_skipped(others: Counter[str]) -> str:
    """The skipped files as one line: "skipped 12 files that are not images by their suffix: 10 .mov, 2 .txt"."""
    count = others.total()
    kinds = [f"{number:,} {suffix}" for suffix, number in others.most_common(MAX_SUFFIXES)]
    more = [f"{len(others) - MAX_SUFFIXES} other suffixes"] if len(others) > MAX_SUFFIXES else []
    files = "file that is not an image by its suffix" if count == 1 else "files that are not images by their suffix"
    return f"skipped {count:,} {files}: {', '.join(kinds + more)}"


def shown_suffix(name: str) -> str:
    """A file's suffix in lower case, safe for a terminal."""
    suffix = os.path.splitext(name)[1].lower()
    return ascii(suffix)[1:-1][:MAX_SUFFIX_LENGTH] or "without suffix"


def _matches(name: str) -> list[str]:
    """The paths that one input names."""
    try:
        if retried(functools.partial(_exists, name)):
            return [name]
    except TransientReadError as error:
        raise FailureError(f"{name}: could not be read: {error}. Try again.") from error
    if not glob.has_magic(name):
        raise UsageError(f"{name}: no such file or folder.")
    matches = sorted(_expand(name), key=os.fsencode)
    if not matches:
        raise UsageError(f"{name}: the pattern matches nothing.")
    return matches


def _exists(name: str) -> bool:
    try:
        os.lstat(name)
    except (OSError, ValueError) as error:
        if transient := transient_error(error):
            raise transient from error
        return False
    return True


def _expand(pattern: str) -> Iterator[str]:
    """The matches of a pattern; `**` gives a folder and its subfolders once each, where `glob` follows every link."""
    before, *after = DOUBLE_STAR.split(pattern, 1)
    if not after:
        yield from glob.iglob(pattern)
        return
    walk = Walk()
    for top in glob.iglob(before) if before else [os.curdir]:
        if not after[0]:
            yield top
            continue
        for folder, *_ in walk.folders(top):
            for match in _expand(os.path.join(glob.escape(folder), after[0])):
                yield match if before else match.removeprefix(os.path.join(os.curdir, ""))


def read_list(stream: io.BufferedIOBase) -> Iterator[str]:
    """The paths of a list while it is read, separated by NUL bytes if it has one, else by line ends.

    Raises:
        UsageError: the list is in UTF-16 or UTF-32.
    """
    block = b""
    while len(block) <= MAX_PATH and b"\0" not in block and (more := stream.read1(BLOCK)):
        block += more
    if encoding := encoding_by_mark(block):
        raise UsageError(f"-: the list is in {encoding}; write it in UTF-8.")
    block = block.removeprefix(codecs.BOM_UTF8)
    separator = b"\0" if b"\0" in block else b"\n"
    rest = b""
    while block:
        *paths, rest = (rest + block).split(separator)
        yield from filter(None, (_path(path, separator) for path in paths))
        block = stream.read1(BLOCK)
    yield from filter(None, [_path(rest, separator)])


def _path(entry: bytes, separator: bytes) -> str:
    return os.fsdecode(entry.removesuffix(b"\r") if separator == b"\n" else entry)
