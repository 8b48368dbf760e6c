"""Parquet through pyarrow, which only those who ask for it install: columns of paths in, tags out."""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from mlzsl.cli.errors import UsageError
from mlzsl.runtime.tags import Tagged

ROWS_READ = 4096
ROWS_WRITTEN = 50_000  # a row group


def check_pyarrow(path: str) -> None:
    """Raises UsageError with what to install where `path` asks for pyarrow and it is not there."""
    _import_pyarrow(path)


def read_column_names(path: str) -> list[str]:
    """The names of a file's columns."""
    names: list[str] = _import_pyarrow(path).parquet.read_schema(path).names
    return names


def read_column(path: str, column: str) -> Iterator[str | None]:
    """A column's values as text, a row group at a time; None where a row has none."""
    pyarrow = _import_pyarrow(path)
    with pyarrow.parquet.ParquetFile(path) as file:
        if column not in file.schema_arrow.names:
            raise ValueError(f"there is no column {column}")
        for batch in file.iter_batches(ROWS_READ, columns=[column]):
            for value in batch.column(0).to_pylist():
                if not isinstance(value, str | bytes | None):
                    raise ValueError(f"the column {column} holds {type(value).__name__}, not text")
                yield os.fsdecode(value) if value is not None else None


def write_tags(photos: Iterable[Tagged], target: Path) -> None:
    """Write tags as Parquet, a row a photo, in row groups of `ROWS_WRITTEN`.

    Columns: `path` (text; bytes that are not UTF-8 stand as \\xNN), `path_bytes` (only where `path` is not UTF-8: the
    name as it is), `tags` (a list of label, score, seen; null for a photo that was not read) and `error`.
    """
    pyarrow = _import_pyarrow(os.fspath(target))
    tag = pyarrow.struct([("label", pyarrow.string()), ("score", pyarrow.float32()), ("seen", pyarrow.bool_())])
    schema = pyarrow.schema(
        [
            ("path", pyarrow.string()),
            ("path_bytes", pyarrow.binary()),
            ("tags", pyarrow.list_(tag)),
            ("error", pyarrow.string()),
        ]
    )
    rows = map(_row, photos)
    with pyarrow.parquet.ParquetWriter(target, schema) as writer:
        while group := list(islice(rows, ROWS_WRITTEN)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def read_rows(path: str) -> Iterator[dict[str, Any]]:
    """The rows that `write_tags` wrote, as the lines of JSONL would hold them: path, and tags or error.

    Raises:
        ValueError: the file is no Parquet, or lacks the columns.
    """
    pyarrow = _import_pyarrow(path)
    with pyarrow.parquet.ParquetFile(path) as file:
        lacking = {"path", "path_bytes", "tags", "error"} - set(file.schema_arrow.names)
        if lacking:
            raise ValueError(f"it lacks the column {sorted(lacking)[0]}")
        for batch in file.iter_batches(ROWS_READ):
            for row in batch.to_pylist():
                name = row["path_bytes"]
                yield {
                    "path": os.fsdecode(name) if isinstance(name, bytes) else row["path"],
                    "tags": row["tags"],
                    "error": row["error"],
                }


def _row(photo: Tagged) -> dict[str, Any]:
    name = os.fsencode(photo.path)
    text = name.decode("utf-8", "backslashreplace")
    tags = [{"label": tag.label, "score": tag.score, "seen": tag.seen} for tag in photo.tags]
    return {
        "path": text,
        "path_bytes": None if text.encode() == name else name,
        "tags": tags if photo.error is None else None,
        "error": photo.error,
    }


def _import_pyarrow(path: str) -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "pyarrow":
            raise
        raise UsageError(f"{path}: Parquet needs pyarrow; run `pip install 'mlzsl[parquet]'`.") from error
    module: ModuleType = pyarrow
    return module
