"""The file that tags end up in, JSONL, CSV or Parquet by its suffix; or JSONL on standard output, photo by photo."""

import csv
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.outputs import written_atomically
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.runtime.io.parquet import check_pyarrow, write_tags
from mlzsl.runtime.io.records import line_of, read_records
from mlzsl.runtime.tags import Tagged

STANDARD_OUTPUT = "-"
SEPARATOR = ";"  # between the tags of a photo in CSV


def check_output(output: str, manifest: Manifest) -> None:
    """Refuse an output that could not be written in the end, before the work begins.

    Args:
        output: a `.jsonl`, `.csv` or `.parquet` file, or `-` for JSONL on standard output.
        manifest: of the engine whose tags are written.

    Raises:
        UsageError: the suffix is unknown, a folder is in the way, a label cannot be written in the format, or what
            writes the format is not installed.
    """
    if output == STANDARD_OUTPUT:
        return
    target = Path(output)
    suffix = target.suffix.lower()
    if target.is_dir():
        raise UsageError(f"--output {output}: is a folder; name a file in it, such as {target / 'tags.jsonl'}.")
    if suffix not in _FORMATS:
        *most, last = _FORMATS
        known = f"{', '.join(most)} or {last}"
        raise UsageError(f"--output {output}: unknown suffix {target.suffix!r}; use {known}, or - for standard output.")
    if suffix == ".parquet":
        check_pyarrow(output)
    if suffix == ".csv":
        for label in manifest.labels:
            if SEPARATOR in label.name:
                raise UsageError(
                    f"--output {output}: the label {label.name!r} holds the {SEPARATOR} that separates tags in CSV; "
                    "use .jsonl."
                )


def write_output(records: Path, output: str) -> None:
    """Make the output of all records, whole or not at all; memory does not grow with their number.

    Args:
        records: JSONL, a line a photo; it stays.
        output: what `check_output` has let pass.

    Raises:
        FailureError: the file system refuses; a file that was there before is unchanged.
    """
    target = Path(output)
    with written_atomically(target) as temporary:
        _FORMATS[target.suffix.lower()](records, temporary)


def write_line(photo: Tagged) -> None:
    """Write JSONL to standard output at once: whoever reads the pipe sees a photo as soon as it is tagged."""
    try:
        sys.stdout.buffer.write(line_of(photo))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FailureError(f"standard output: could not be written: {error.strerror or error}.") from error


def _jsonl(records: Path, target: Path) -> None:
    """The records themselves, by a second name where the file system has such."""
    target.unlink()
    try:
        os.link(records, target)
    except OSError:
        shutil.copyfile(records, target)


def _csv(records: Path, target: Path) -> None:
    """A row a photo: path, tags and scores joined by `;`, error. Names that are not UTF-8 stand as they are."""
    with target.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)  # by itself it leaves \r unquoted
        rows.writerow(["path", "tags", "scores", "error"])
        for photo in read_records(records):
            tags = SEPARATOR.join(tag.label for tag in photo.tags)
            scores = SEPARATOR.join(f"{tag.score:.6f}" for tag in photo.tags)
            row = [photo.path, tags, scores, photo.error or ""]
            (quoted if any("\r" in value for value in row) else rows).writerow(row)


def _parquet(records: Path, target: Path) -> None:
    write_tags(read_records(records), target)


_FORMATS: dict[str, Callable[[Path, Path], None]] = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
