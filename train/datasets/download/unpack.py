"""Zip and tar archives, unpacked into a folder: plain files inside it only, and no more bytes than announced.

Links, devices and paths that lead out of the folder are refused before anything is written, as a published dataset has
none. tarfile's filter "data" alone would unpack links within the folder and make absolute paths relative, and zipfile
has no filter; so names, kinds and sizes of both formats are checked here. Files are unpacked into a hidden folder and
then moved, so that a partly written file never has its final name.
"""

import contextlib
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PureWindowsPath

from mlzsl.cli.errors import FailureError, reason_of
from mlzsl.cli.progress import progress

MAX_FILES = 500_000
MAX_RATIO = 20  # of unpacked to packed bytes, above MAX_RATIO_FROM
MAX_RATIO_FROM = 2**31  # unpacked bytes: small archives of lists of 0 and 1 grow a hundredfold
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    is_plain: bool
    extract: Callable[[Path], object]  # into a folder


def unpack(archive: Path, folder: Path, only: tuple[str, ...] = (), quiet: bool = False) -> dict[str, int]:
    """Unpack the files of a zip or tar archive (plain or compressed) into `folder`, replacing files of the same name.

    Args:
        archive: the file.
        folder: exists.
        only: patterns (fnmatch) of the names to unpack; all if empty.
        quiet: show no progress.

    Returns:
        The size in bytes of each file, by its name in the archive.

    Raises:
        FailureError: the archive is damaged or of another format, a member is no plain file or leads out of the folder,
            or the content is far larger than the archive's size suggests or than the free space on the disk.
    """
    staging = folder / f".unpacking-{archive.name}"
    try:
        with _open_members(archive) as listed:
            members = _select(archive, listed, only)
            size, free = sum(member.size for member in members), shutil.disk_usage(folder).free
            if size > free:
                raise FailureError(
                    f"{archive}: unpacks to {size:,} bytes, but {folder} has {free:,} free; free space or choose "
                    "another folder with --into. The archive is kept."
                )
            shutil.rmtree(staging, ignore_errors=True)
            with progress(f"unpacking {archive.name}", len(members), "files", quiet) as bar:
                for member in members:
                    member.extract(staging)
                    bar.advance()
        _move(staging, folder)
    except DAMAGE as error:
        raise FailureError(f"{archive}: is not a readable zip or tar archive ({reason_of(error)}).") from error
    except OSError as error:
        raise FailureError(
            f"{folder}: {archive.name} could not be unpacked there ({reason_of(error)}); the archive is kept."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return {member.name: member.size for member in members}


@contextlib.contextmanager
def _open_members(archive: Path) -> Iterator[Iterator[_Member]]:
    """Yield the members that are not folders."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield (
                _Member(
                    info.filename,
                    info.file_size,
                    stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG),
                    partial(zipped.extract, info),
                )
                for info in zipped.infolist()
                if not info.is_dir()
            )
    else:
        with tarfile.open(archive) as tarred:
            yield (
                _Member(info.name, info.size, info.isfile(), partial(tarred.extract, info, filter="data"))
                for info in tarred
                if not info.isdir()
            )


def _select(archive: Path, listed: Iterator[_Member], only: tuple[str, ...]) -> list[_Member]:
    """Check all members and return those to unpack."""
    packed = archive.stat().st_size
    most, total = max(MAX_RATIO * packed, MAX_RATIO_FROM), 0
    members: list[_Member] = []
    for number, member in enumerate(listed):
        name = PureWindowsPath(member.name)  # knows both slashes and drives
        if not name.parts or name.anchor or ".." in name.parts or "\0" in member.name:
            raise _refusal(archive, f"its member {member.name!r} leads out of the folder")
        if not member.is_plain:
            raise _refusal(archive, f"its member {member.name!r} is a link or a device")
        if number >= MAX_FILES:
            raise _refusal(archive, f"has more than {MAX_FILES:,} files")
        if only and not any(fnmatchcase(member.name, pattern) for pattern in only):
            continue
        members.append(member)
        total += member.size
        if total > most:
            raise _refusal(archive, f"has {packed:,} bytes but unpacks to more than {most:,}")
    if not members:
        raise FailureError(f"{archive}: has no file {' or '.join(only) or 'in it'}; nothing was unpacked.")
    return members


def _refusal(archive: Path, finding: str) -> FailureError:
    return FailureError(f"{archive}: {finding}; the archive is refused as unsafe and nothing was unpacked.")


def _move(source: Path, target: Path) -> None:
    """Move the content of `source` into `target`, whole folders at once if they are new."""
    for child in sorted(source.iterdir()):
        destination = target / child.name
        if child.is_dir() and destination.is_dir():
            _move(child, destination)
        else:
            os.replace(child, destination)
