"""Atomic writing of files, and SHA-256 hashes."""

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from mlzsl.cli.errors import FailureError, UsageError, reason_of

STANDARD_OUTPUT = 1  # its descriptor


def check_target(flag: str, target: Path, suffixes: Collection[str], example: str, otherwise: str = "") -> None:
    """Refuse, before the work begins, an output file that could not be written.

    Args:
        flag: the option that names the file, such as "--output".
        target: the file.
        suffixes: the supported ones, in lower case.
        example: a file name, for the message.
        otherwise: another value that the option takes, for the message.

    Raises:
        UsageError: the target is a folder, or its suffix is not supported.
    """
    if target.is_dir():
        raise UsageError(f"{flag} {target}: is a folder; name a file in it, such as {target / example}.")
    if target.suffix.lower() not in suffixes:
        *most, last = suffixes
        known = f"{', '.join(most)} or {last}{otherwise}"
        raise UsageError(f"{flag} {target}: unknown suffix {target.suffix!r}; use {known}.")


@contextlib.contextmanager
def written_atomically(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path, whose file takes the place of `target` when the block ends without an exception.

    After an exception, a full disk or a kill, an existing file at `target` is unchanged. A missing folder is created.
    The temporary file has the suffix of `target`, for writers that choose a format by suffix.

    A new file keeps mode, extended attributes and, where permitted, owner of the one that it replaces. A link stays:
    the file that it leads to is replaced. What is not a regular file (a pipe, a device), and standard output whatever
    it is, is never replaced: the finished file is copied into it.

    Raises:
        UsageError: the target is a folder.
        FailureError: the file system fails (disk full, no permission); the sentence names the target.
    """
    target = Path(target)
    if target.is_dir():
        raise UsageError(f"{target}: is a folder; name a file in it.")
    temporary = None
    try:
        existing = _existing(target)
        in_place = existing is not None and (_is_standard_output(existing) or not stat.S_ISREG(existing.st_mode))
        final = Path(os.path.realpath(target))
        folder = Path(tempfile.gettempdir()) if in_place else final.parent
        folder.mkdir(parents=True, exist_ok=True)
        created, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=folder)
        os.close(created)
        temporary = Path(name)
        yield temporary
        if in_place:
            into = os.dup(STANDARD_OUTPUT) if existing and _is_standard_output(existing) else target
            with open(temporary, "rb") as file, open(into, "wb") as stream:
                shutil.copyfileobj(file, stream)
        else:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            _take_attributes(temporary, final)
            os.replace(temporary, final)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_bytes(*parts: bytes) -> str:
    """The SHA-256 of the parts, each preceded by its length, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _existing(target: Path) -> os.stat_result | None:
    """The status of the file that a target leads to; None if there is none.

    Raises:
        OSError: it is write-protected, or a link that leads to itself.
    """
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return None
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return status


def _is_standard_output(status: os.stat_result) -> bool:
    try:
        return os.path.samestat(status, os.fstat(STANDARD_OUTPUT))
    except OSError:  # it is closed
        return False


def _take_attributes(temporary: Path, final: Path) -> None:
    """Give a file mode, extended attributes and owner of the one that it replaces, or the mode of a new file."""
    if not final.exists():
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp creates files that only their owner may read
        return
    status = final.stat()
    with contextlib.suppress(PermissionError, AttributeError):  # Windows has no owners
        os.chown(temporary, status.st_uid, status.st_gid)
    shutil.copystat(final, temporary)
    os.utime(temporary)


def _cannot_write(target: Path, error: OSError) -> FailureError:
    kept = " The existing file is unchanged." if target.is_file() else ""
    return FailureError(
        f"{target}: could not be written: {reason_of(error)}.{kept} Free space or choose another folder."
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
