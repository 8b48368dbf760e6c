"""Files of tags: JSONL, CSV or Parquet by suffix, or JSONL on standard output; written and read back.

A job keeps its photos as JSONL, one line a photo; the other formats are made from it:

    {"path": "a.jpg", "tags": [{"label": "dog", "score": 0.93, "seen": true}]}
    {"path": "b.jpg", "error": "the file is empty"}
    {"path": "c.jpg", "tags": [], "note": "the file is cut: a JPEG without its end marker"}
"""

import csv
import json
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import FailureError, UsageError, reason_of
from mlzsl.cli.json_decoding import convert_json, decode_json
from mlzsl.cli.outputs import check_target, written_atomically
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.runtime.io.parquet import import_pyarrow, read_rows, write_rows
from mlzsl.runtime.tags import Tagged

STANDARD_OUTPUT = "-"
SEPARATOR = ";"  # between the tags of a photo in CSV
MAX_LINE = 16 * 2**20  # characters; 22,000 labels with their scores take 2 MB
COLUMNS = ["path", "tags", "scores", "error", "note"]  # files of mlzsl 0.1 lack the note
REMEDY = "tag the photos again with mlzsl-infer"


# ---- a photo ---------------------------------------------------------------------------------------------------------


def record_of(photo: Tagged) -> dict[str, Any]:
    """A photo as a JSON object."""
    if photo.error is not None:
        return {"path": photo.path, "error": photo.error} | ({"transient": True} if photo.transient else {})
    note = {} if photo.note is None else {"note": photo.note}
    return {"path": photo.path, "tags": list(map(vars, photo.tags))} | note


def line_of(photo: Tagged) -> bytes:
    """A photo as one line of JSONL; only names that are not UTF-8 are escaped, so that the line is UTF-8."""
    record = record_of(photo)
    try:
        return (json.dumps(record, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(record) + "\n").encode()


def photo_of(line: str | bytes, where: str) -> Tagged:
    """Read back what `line_of` wrote; errors start with `where`.

    Raises:
        UsageError: the line is not a record of a photo.
    """
    return decode_json(line, Tagged, where, REMEDY, upgrade=_with_tags)


def _with_tags(record: dict[str, Any]) -> dict[str, Any]:
    """Only a photo with an error may lack tags."""
    return record if record.get("error") is not None else {"tags": None} | record


# ---- writing ---------------------------------------------------------------------------------------------------------


def check_output(output: str, manifest: Manifest | None = None) -> None:
    """Refuse, before photos are tagged, an output that could not be written.

    Args:
        output: a `.jsonl`, `.csv` or `.parquet` file, or `-` for JSONL on standard output.
        manifest: of the engine whose tags are written; None before it is opened.

    Raises:
        UsageError: the suffix is unknown, the path is a folder, the library for the format is not installed, or a label
            cannot be written in the format.
    """
    if output != STANDARD_OUTPUT:
        check_target("--output", Path(output), _FORMATS, "tags.jsonl", ", or - for standard output")
        check_tags(Path(output))
    for label in manifest.labels if manifest and output.lower().endswith(".csv") else ():
        if SEPARATOR in label.name:
            raise UsageError(
                f"--output {output}: the label {label.name!r} holds the {SEPARATOR} that separates tags in CSV; "
                "use .jsonl."
            )


def write_output(records: Path, output: str) -> None:
    """Write all records to the output, whole or not at all; memory does not grow with their number.

    Args:
        records: JSONL, a line a photo; it is kept.
        output: a file that `check_output` accepts.

    Raises:
        FailureError: the file cannot be written; an earlier file is unchanged.
    """
    target = Path(output)
    with written_atomically(target) as temporary:
        _FORMATS[target.suffix.lower()][0](records, temporary)


def write_line(photo: Tagged) -> None:
    """Write JSONL to standard output and flush it, so that a pipe gets each photo as soon as it is tagged."""
    try:
        sys.stdout.buffer.write(line_of(photo))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FailureError(f"standard output: could not be written: {reason_of(error)}.") from error


def _write_json_lines(records: Path, target: Path) -> None:
    """Link to the records, or copy them where the file system has no hard links."""
    target.unlink()
    try:
        os.link(records, target)
    except OSError:
        shutil.copyfile(records, target)


def _write_csv(records: Path, target: Path) -> None:
    """A row a photo, tags and scores joined by `;`. Names that are not UTF-8 keep their bytes."""
    with target.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)  # csv leaves \r unquoted by default
        rows.writerow(COLUMNS)
        for photo in read_records(records):
            tags = SEPARATOR.join(tag.label for tag in photo.tags)
            scores = SEPARATOR.join(f"{tag.score:.6f}" for tag in photo.tags)
            row = [photo.path, tags, scores, photo.error or "", photo.note or ""]
            (quoted if any("\r" in value for value in row) else rows).writerow(row)


def _write_parquet(records: Path, target: Path) -> None:
    write_rows(map(record_of, read_records(records)), target)


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_records(path: Path) -> Iterator[Tagged]:
    """The photos of a JSONL file of whole lines, one at a time."""
    return _read_json_lines(path, ())


def read_tags(path: Path, unseen: Collection[str]) -> Iterator[Tagged]:
    """Read tags photo by photo, in the order of the file.

    Args:
        path: a `.jsonl`, `.csv` or `.parquet` file.
        unseen: the names of the labels that training never saw; CSV does not mark them.

    Raises:
        UsageError: the file is missing, its suffix unknown, or a line invalid; the sentence names the line.
    """
    check_tags(path)
    try:
        yield from _FORMATS[path.suffix.lower()][1](path, unseen)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {reason_of(error)}.") from error


def check_tags(path: Path) -> None:
    """Refuse, by its name, a file whose tags cannot be read.

    Raises:
        UsageError: the suffix is unknown, or the library that reads it is not installed.
    """
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"{path}: unknown suffix {path.suffix!r} for tags; name a file {', '.join(_FORMATS)}.")
    if path.suffix.lower() == ".parquet":
        import_pyarrow(str(path))


def _read_json_lines(path: Path, _: Collection[str]) -> Iterator[Tagged]:
    for number, line in enumerate(_lines(path), 1):
        yield photo_of(line, f"{path}: line {number}")


def _read_csv(path: Path, unseen: Collection[str]) -> Iterator[Tagged]:
    rows = csv.reader(_lines(path))
    try:
        columns = _next(rows)
        if columns not in (COLUMNS, COLUMNS[:-1]):
            raise UsageError(f"{path}: line 1: its columns are not {', '.join(COLUMNS)}; {REMEDY}.")
        while (row := _next(rows)) is not None:
            record = _record_of_row(row, columns, unseen)
            yield convert_json(record, Tagged, f"{path}: line {rows.line_num}", REMEDY)
    except (csv.Error, ValueError) as error:
        raise UsageError(f"{path}: line {rows.line_num}: {reason_of(error)}; {REMEDY}.") from error


def _next(rows: Iterator[list[str]]) -> list[str] | None:
    """The next row; its fields may exceed csv's limit of 128 KiB, as many tags do. Other readers keep that limit."""
    default = csv.field_size_limit(MAX_LINE)
    try:
        return next(rows, None)
    finally:
        csv.field_size_limit(default)


def _record_of_row(row: list[str], columns: list[str], unseen: Collection[str]) -> dict[str, Any]:
    if len(row) != len(columns):
        raise ValueError(f"it has {len(row)} columns, not {len(columns)}")
    path, tags, scores, error, note = [*row, ""][: len(COLUMNS)]
    labels, numbers = tags.split(SEPARATOR) if tags else [], scores.split(SEPARATOR) if scores else []
    if len(labels) != len(numbers):
        raise ValueError(f"it has {len(labels)} tags and {len(numbers)} scores")
    rows = zip(labels, map(float, numbers), strict=True)
    entries = [{"label": label, "score": score, "seen": label not in unseen} for label, score in rows]
    return {"path": path, "tags": entries, "error": error or None, "note": note or None}


def _read_parquet(path: Path, _: Collection[str]) -> Iterator[Tagged]:
    try:
        for number, row in enumerate(read_rows(str(path)), 1):
            yield convert_json(_with_tags(row), Tagged, f"{path}: row {number}", REMEDY)
    except ValueError as error:
        raise UsageError(f"{path}: is not a file of tags ({reason_of(error)}); {REMEDY}.") from error


def _lines(path: Path) -> Iterator[str]:
    """The lines as they were written: names that are not UTF-8 keep their bytes."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), ""), 1):
            if len(line) == MAX_LINE:
                raise UsageError(f"{path}: line {number}: is longer than {MAX_LINE:,} characters; {REMEDY}.")
            yield line


_Writer = Callable[[Path, Path], None]
_Reader = Callable[[Path, Collection[str]], Iterator[Tagged]]
_FORMATS: dict[str, tuple[_Writer, _Reader]] = {
    ".jsonl": (_write_json_lines, _read_json_lines),
    ".csv": (_write_csv, _read_csv),
    ".parquet": (_write_parquet, _read_parquet),
}
