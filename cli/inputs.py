"""Reading whole input files, of bounded size."""

import codecs
from pathlib import Path

from mlzsl.cli.errors import UsageError, reason_of


def read_bytes(path: Path, max_bytes: int, remedy: str) -> bytes:
    """Read a file of at most `max_bytes` bytes; `remedy` completes errors, such as "expected a labels.json".

    Raises:
        UsageError: the file is missing, a folder, unreadable or larger.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; {remedy}.")
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({reason_of(error)}); {remedy}.") from error
    if len(content) > max_bytes:
        raise UsageError(f"{path}: is larger than {max_bytes / 2**20:g} MiB; {remedy}.")
    return content


def encoding_by_mark(content: bytes) -> str | None:
    """The encoding that a byte-order mark names if it is not UTF-8: "UTF-16" or "UTF-32"."""
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # before UTF-16, whose mark begins like this
        return "UTF-32"
    return "UTF-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else None


def read_text(path: Path, max_bytes: int, remedy: str) -> str:
    """Read a UTF-8 file, without its byte-order mark; raises as `read_bytes`, and if it is not UTF-8."""
    content = read_bytes(path, max_bytes, remedy)
    if encoding := encoding_by_mark(content):
        raise UsageError(f"{path}: is in {encoding} by its byte-order mark; save the file as UTF-8.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise UsageError(f"{path}, line {line}: the byte 0x{byte:02x} is not UTF-8; save the file as UTF-8.") from error
