"""Files that exist whole or not at all, and the hashes that tell one from another."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from mlzsl.cli.errors import FailureError, UsageError


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
    """Yield a temporary path beside `target`; it becomes `target` when the block ends well.

    Whatever goes wrong (an exception, a full disk, a kill), a file that was at `target` before is still there,
    unchanged. The folder is made when it is missing. The temporary file keeps the suffix of `target`, so that
    writers which choose a format by suffix do what is meant.

    Raises:
        FailureError: the file system refuses (disk full, no permission); the sentence names the target.
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
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files that nobody else may read
        os.replace(temporary, target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _cannot_write(target: Path, error: OSError) -> FailureError:
    kept = " The file that was there before is unchanged." if target.exists() else ""
    return FailureError(
        f"{target}: could not be written: {error.strerror or error}.{kept} Free space or choose another place."
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_bytes(*parts: bytes) -> str:
    """Return the SHA-256 of the parts, each preceded by its length, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
