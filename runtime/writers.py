"""Where tags go: JSONL or CSV by the file's suffix, or JSONL on standard output."""

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from mlzsl.engines.manifest import Manifest
from mlzsl.runtime.tags import Tagged
from mlzsl.shell.errors import FailureError, UsageError
from mlzsl.shell.outputs import written_atomically

STANDARD_OUTPUT = "-"
SEPARATOR = ";"  # between the tags of a photo in CSV


class TagWriter(Protocol):
    """Takes one photo after the other, in the order of the input."""

    def write(self, photo: Tagged) -> None:
        """Write what became of one photo."""


@contextlib.contextmanager
def open_writer(output: str, manifest: Manifest) -> Iterator[TagWriter]:
    """Open the writer for an output; a file is there when the block has ended well, whole, or not at all.

    Args:
        output: a `.jsonl` or `.csv` file, or `-` for JSONL on standard output, a line as soon as it is known.
        manifest: of the engine whose tags are written.

    Raises:
        UsageError: the suffix is unknown, a folder is in the way, or a label cannot be written in the format.
        FailureError: the file system refuses; a file that was there before is unchanged.
    """
    if output == STANDARD_OUTPUT:
        yield _StandardOutput()
        return
    check_output(output, manifest)
    target = Path(output)
    # A name need not be UTF-8: in JSON its odd bytes are escaped, in CSV they stand as they are.
    with written_atomically(target) as temporary, _opened(temporary) as file:
        yield _WRITERS[target.suffix.lower()](file)


def check_output(output: str, manifest: Manifest) -> None:
    """Refuse an output that could not be written in the end, before the work begins.

    Raises:
        UsageError: as `open_writer`.
    """
    if output == STANDARD_OUTPUT:
        return
    target = Path(output)
    if target.is_dir():
        raise UsageError(f"--output {output}: is a folder; name a file in it, such as {target / 'tags.jsonl'}.")
    if target.suffix.lower() not in _WRITERS:
        known = " or ".join(_WRITERS)
        raise UsageError(f"--output {output}: unknown suffix {target.suffix!r}; use {known}, or - for standard output.")
    if target.suffix.lower() == ".csv":
        for label in manifest.labels:
            if SEPARATOR in label.name:
                raise UsageError(
                    f"--output {output}: the label {label.name!r} holds the {SEPARATOR} that separates tags in CSV; "
                    "use .jsonl."
                )


def record_of(photo: Tagged) -> dict[str, Any]:
    """What became of one photo, as a line of JSONL holds it."""
    if photo.error is not None:
        return {"path": photo.path, "error": photo.error}
    return {
        "path": photo.path,
        "tags": [{"label": tag.label, "score": tag.score, "seen": tag.seen} for tag in photo.tags],
    }


def line_of(photo: Tagged) -> str:
    """One line of JSONL with its end; names that are not UTF-8 are escaped so that the line itself is."""
    text = json.dumps(record_of(photo), ensure_ascii=False)
    if not _is_unicode(text):
        text = json.dumps(record_of(photo), ensure_ascii=True)
    return text + "\n"


class _JsonLines:
    """A line a photo: `{"path": …, "tags": [{"label": …, "score": …, "seen": …}, …]}` or `{"path": …, "error": …}`."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, photo: Tagged) -> None:
        self._file.write(line_of(photo))


class _Csv:
    """A row a photo: path, tags and scores joined by `;`, error."""

    def __init__(self, file: IO[str]) -> None:
        self._rows = csv.writer(file, lineterminator="\n")
        self._rows.writerow(["path", "tags", "scores", "error"])

    def write(self, photo: Tagged) -> None:
        tags = SEPARATOR.join(tag.label for tag in photo.tags)
        scores = SEPARATOR.join(f"{tag.score:.6f}" for tag in photo.tags)
        self._rows.writerow([photo.path, tags, scores, photo.error or ""])


class _StandardOutput:
    """JSONL, flushed line by line: whoever reads the pipe sees a photo as soon as it is tagged."""

    def write(self, photo: Tagged) -> None:
        try:
            sys.stdout.buffer.write(line_of(photo).encode())
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise FailureError(f"standard output: could not be written: {error.strerror or error}.") from error


_WRITERS: dict[str, Callable[[IO[str]], TagWriter]] = {".jsonl": _JsonLines, ".csv": _Csv}


def _opened(path: Path) -> IO[str]:
    return open(path, "w", encoding="utf-8", errors="surrogateescape", newline="")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
