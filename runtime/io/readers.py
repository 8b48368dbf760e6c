"""Reading back a file of tags, as `mlzsl-infer` wrote it or anybody else."""

import csv
import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.jsonfields import UnfitError, list_of, number_of, object_of, shown
from mlzsl.runtime.io.parquet import check_pyarrow, read_rows
from mlzsl.runtime.io.writers import SEPARATOR
from mlzsl.runtime.tags import Tag, Tagged

LONGEST_LINE = 16 * 2**20  # characters; 22,000 labels with their scores take 2 MB
COLUMNS = ["path", "tags", "scores", "error"]


def read_tags(path: Path, unseen: Collection[str]) -> Iterator[Tagged]:
    """Read tags photo by photo, in the order of the file.

    Args:
        path: a `.jsonl`, `.csv` or `.parquet` file.
        unseen: the names of the labels that training never saw; CSV does not say it itself.

    Raises:
        UsageError: the file is missing, of no kind read here, or a line of it is unfit; the sentence names the line.
    """
    check_tags(path)
    try:
        yield from _READERS[path.suffix.lower()](path, unseen)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}.") from error


def check_tags(path: Path) -> None:
    """Refuse a file whose tags cannot be read back, by its name.

    Raises:
        UsageError: its suffix is of no kind read here, or what reads it is not installed.
    """
    if path.suffix.lower() not in _READERS:
        raise UsageError(f"{path}: tags are read back from {', '.join(_READERS)}; name such a file.")
    if path.suffix.lower() == ".parquet":
        check_pyarrow(str(path))


def _read_json_lines(path: Path, _: Collection[str]) -> Iterator[Tagged]:
    for number, line in enumerate(_lines(path), 1):
        try:
            yield _tagged(object_of("it", json.loads(line)))
        except UnfitError as unfit:
            raise _unfit(path, number, str(unfit)) from unfit
        except (ValueError, RecursionError) as error:
            raise _unfit(path, number, "it is not JSON") from error


def _tagged(record: dict[str, Any]) -> Tagged:
    if "error" in record:
        return Tagged(_text("path", record), error=_text("error", record))
    return Tagged(
        _text("path", record),
        tuple(_tag(f"tags[{place}]", entry) for place, entry in enumerate(list_of("tags", record.get("tags")))),
    )


def _tag(where: str, entry: object) -> Tag:
    fields = object_of(where, entry)
    seen = fields.get("seen")
    if not isinstance(seen, bool):
        raise UnfitError(f"{where}.seen is {shown(seen)}, not true or false")
    return Tag(_text("label", fields), _score(f"{where}.score", fields.get("score")), seen)


def _read_csv(path: Path, unseen: Collection[str]) -> Iterator[Tagged]:
    rows = csv.reader(_lines(path))
    try:
        if _next(rows) != COLUMNS:
            raise _unfit(path, 1, f"its columns are not {', '.join(COLUMNS)}")
        while (row := _next(rows)) is not None:
            yield _tagged_row(row, unseen)
    except (csv.Error, UnfitError) as unfit:
        raise _unfit(path, rows.line_num, str(unfit)) from unfit


def _next(rows: Iterator[list[str]]) -> list[str] | None:
    """The next row, whose fields may exceed csv's limit of 128 KiB, as many tags do; others' rows keep that limit."""
    usual = csv.field_size_limit(LONGEST_LINE)
    try:
        return next(rows, None)
    finally:
        csv.field_size_limit(usual)


def _tagged_row(row: list[str], unseen: Collection[str]) -> Tagged:
    if len(row) != len(COLUMNS):
        raise UnfitError(f"it has {len(row)} columns, not {len(COLUMNS)}")
    name, tags, scores, error = row
    if error:
        return Tagged(name, error=error)
    labels, numbers = tags.split(SEPARATOR) if tags else [], scores.split(SEPARATOR) if scores else []
    if len(labels) != len(numbers):
        raise UnfitError(f"it has {len(labels)} tags and {len(numbers)} scores")
    return Tagged(
        name,
        tuple(
            Tag(label, _score("a score", _number(number)), label not in unseen)
            for label, number in zip(labels, numbers, strict=True)
        ),
    )


def _read_parquet(path: Path, _: Collection[str]) -> Iterator[Tagged]:
    rows = enumerate(read_rows(str(path)), 1)
    try:
        for number, row in rows:
            try:
                yield _tagged({key: value for key, value in row.items() if value is not None})
            except UnfitError as unfit:
                raise UsageError(f"{path}: row {number}: {unfit}; tag the photos again with mlzsl-infer.") from unfit
    except ValueError as error:
        raise UsageError(f"{path}: is no file of tags: {error}; tag the photos again with mlzsl-infer.") from error


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _score(where: str, value: object) -> float:
    score = number_of(where, value)
    if not 0 <= score <= 1:
        raise UnfitError(f"{where} is {shown(value)}, not from 0 to 1")
    return score


def _text(field: str, fields: dict[str, Any]) -> str:
    value = fields.get(field)
    if not isinstance(value, str):
        raise UnfitError(f"{field} is {shown(value)}, not text")
    return value


def _lines(path: Path) -> Iterator[str]:
    """The lines as they were written: bytes of names that are not UTF-8 are kept."""
    number = 0
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        while line := file.readline(LONGEST_LINE):
            number += 1
            if len(line) == LONGEST_LINE:
                raise _unfit(path, number, f"it is longer than {LONGEST_LINE:,} characters")
            yield line


def _unfit(path: Path, number: int, what: str) -> UsageError:
    return UsageError(f"{path}: line {number}: {what}; tag the photos again with mlzsl-infer.")


_READERS: dict[str, Callable[[Path, Collection[str]], Iterator[Tagged]]] = {
    ".jsonl": _read_json_lines,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
