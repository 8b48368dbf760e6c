"""Atomic writing of files, and SHA-256 hashes."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from mlzsl.cli.errors import FailureError, UsageError, reason_of


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
    """Yield a temporary path beside `target`, which replaces `target` when the block ends without an exception.

    After an exception, a full disk or a kill, an existing file at `target` is unchanged. A missing folder is created.
    The temporary file has the suffix of `target`, for writers that choose a format by suffix.

    Raises:
        FailureError: the file system fails (disk full, no permission); the sentence names the target.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise _cannot_write(target, error) from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp creates files that only their owner may read
        os.replace(temporary, target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
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


def _cannot_write(target: Path, error: OSError) -> FailureError:
    kept = " The existing file is unchanged." if target.exists() else ""
    return FailureError(
        f"{target}: could not be written: {reason_of(error)}.{kept} Free space or choose another folder."
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
