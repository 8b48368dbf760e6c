"""Zip and tar archives into a folder: only plain files with names inside it, no more than is announced and fits.

Links, devices and names that lead elsewhere are refused before anything is written, whoever made the archive. All is
unpacked beside its place first and then moved there, so that no half-written file has a final name.
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
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from mlzsl.cli.errors import FailureError, reason_of
from mlzsl.cli.progress import progress

MAX_FILES = 500_000
MAX_GROWTH = 20  # times the archive's size, for what is larger than
ALWAYS_ALLOWED = 2**31  # bytes: small archives of lists of 0 and 1 grow a hundredfold
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, only: tuple[str, ...] = (), quiet: bool = False) -> list[str]:
    """Unpack the files of a zip or tar (plain or compressed) below `folder`; files of the same names are replaced.

    Args:
        archive: the file.
        folder: exists.
        only: patterns (fnmatch) of the names to take; all when empty.
        quiet: no progress.

    Returns:
        The names of what lies at the top, sorted.

    Raises:
        FailureError: no archive or a damaged one; a member that is no plain file or leads out of the folder; far more
            than the archive's size suggests or the disk has room for.
    """
    staging = folder / f".unpacking-{archive.name}"
    try:
        with _members(archive) as listed:
            wanted = _wanted(archive, listed, only)
            room = shutil.disk_usage(folder).free
            size = sum(member.size for member in wanted)
            if size > room:
                raise FailureError(
                    f"{archive}: unpacks to {size:,} bytes, but {folder} has room for {room:,}; free space or choose "
                    "another folder with --into. The archive is kept."
                )
            shutil.rmtree(staging, ignore_errors=True)
            with progress(f"unpacking {archive.name}", len(wanted), "files", quiet) as bar:
                for member in wanted:
                    _write(member, staging / member.name)
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
    return sorted({PurePosixPath(member.name).parts[0] for member in wanted})


@contextlib.contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            yield _of_zip(file, archive)
    else:
        with tarfile.open(archive) as file:
            yield _of_tar(file, archive)


def _of_zip(file: zipfile.ZipFile, archive: Path) -> Iterator[_Member]:
    for info in file.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(archive, info.filename, "is a link or a device")
        if not info.is_dir():
            yield _Member(info.filename, info.file_size, partial(file.open, info))


def _of_tar(file: tarfile.TarFile, archive: Path) -> Iterator[_Member]:
    def opened(info: tarfile.TarInfo) -> IO[bytes]:
        content = file.extractfile(info)
        assert content is not None  # it is a plain file
        return content

    for info in file:
        if not (info.isfile() or info.isdir()):
            raise _refused(archive, info.name, "is a link or a device")
        if info.isfile():
            yield _Member(info.name, info.size, partial(opened, info))


def _wanted(archive: Path, listed: Iterator[_Member], only: tuple[str, ...]) -> list[_Member]:
    """The members to unpack, all of them fit for it."""
    most = max(MAX_GROWTH * archive.stat().st_size, ALWAYS_ALLOWED)
    wanted: list[_Member] = []
    total = 0
    for number, member in enumerate(listed):
        if not _stays_inside(member.name):
            raise _refused(archive, member.name, "leads out of the folder")
        if number >= MAX_FILES:
            raise FailureError(f"{archive}: has more than {MAX_FILES:,} files; nothing was unpacked.")
        if only and not any(fnmatchcase(member.name, pattern) for pattern in only):
            continue
        total += member.size
        if total > most:
            raise FailureError(
                f"{archive}: has {archive.stat().st_size:,} bytes but unpacks to more than {most:,}, which no dataset "
                "does; nothing was unpacked."
            )
        wanted.append(member)
    if not wanted:
        raise FailureError(f"{archive}: has no file {' or '.join(only) or 'in it'}; nothing was unpacked.")
    return wanted


def _stays_inside(name: str) -> bool:
    """Whether a member's name is a path below the folder, on Windows as well."""
    pure = PureWindowsPath(name)  # knows both slashes and drives
    return bool(pure.parts) and not pure.anchor and ".." not in pure.parts and "\0" not in name


def _refused(archive: Path, name: str, why: str) -> FailureError:
    return FailureError(
        f"{archive}: its member {name!r} {why}; the archive is not to be trusted, nothing was unpacked."
    )


def _write(member: _Member, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 2**20)
    if target.stat().st_size != member.size:
        raise EOFError(f"{member.name} ends early")


def _move(source: Path, target: Path) -> None:
    """Move what is in `source` into `target`, whole folders at once where they are new."""
    for child in sorted(source.iterdir()):
        place = target / child.name
        if child.is_dir() and place.is_dir():
            _move(child, place)
        else:
            os.replace(child, place)
