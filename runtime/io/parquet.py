"""Parquet with pyarrow, an optional dependency: reads columns of paths, writes tags and reads them back."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import reason_of
from mlzsl.cli.optional import import_optional

ROWS_READ, IMAGES_READ = 4096, 64  # at once
MAX_PATH = 4096  # bytes
ROWS_WRITTEN = 50_000  # a row group


def import_pyarrow(path: str) -> Any:
    """pyarrow, which reads or writes `path`.

    Raises:
        UsageError: it is not installed; the sentence names the extra.
    """
    missing = f"{path}: Parquet needs pyarrow; run `pip install 'mlzsl[parquet]'`."
    import_optional("pyarrow.parquet", missing)
    return import_optional("pyarrow", missing)


def read_column_names(path: str) -> list[str]:
    """The names of a file's columns; raises ValueError if it is not Parquet."""
    with _opened(path) as file:
        names: list[str] = file.schema_arrow.names
        return names


def read_photos(path: str, column: str) -> Iterator[tuple[str | None, bytes | None]]:
    """The paths and the image bytes in a column, row by row.

    A value is a path (text, or bytes of at most `MAX_PATH` without a null byte), image bytes, or Hugging Face's struct
    of `bytes` and `path`. What a row lacks is None.

    Raises:
        ValueError: the file is not Parquet, or the column is missing or holds neither.
    """
    with _opened(path) as file:
        if (count := file.schema_arrow.names.count(column)) != 1:
            raise ValueError(f"it has {count} columns {column}, expected one")
        is_text = str(file.schema_arrow.field(column).type) == "string"
        for batch in _batches(file, ROWS_READ if is_text else IMAGES_READ, columns=[column]):
            for value in batch.column(batch.schema.names[0]).to_pylist():
                if isinstance(value, dict) and value.keys() >= {"bytes", "path"}:
                    if not isinstance(value["path"], str | None) or not isinstance(value["bytes"], bytes | None):
                        raise ValueError(f"the column {column} holds structs of other types than text and bytes")
                    yield value["path"], value["bytes"]
                elif isinstance(value, bytes) and (b"\0" in value or len(value) > MAX_PATH):
                    yield None, value
                elif isinstance(value, str | bytes | None):
                    yield (os.fsdecode(value) if value is not None else None), None
                else:
                    raise ValueError(f"the column {column} holds {type(value).__name__}, not paths or images")


def write_rows(records: Iterable[dict[str, Any]], target: Path) -> None:
    """Write tags as Parquet, a row a photo, in row groups of `ROWS_WRITTEN`.

    Columns: `path` (text; bytes that are not UTF-8 become \\xNN), `path_bytes` (the path as it is, only if it is not
    UTF-8), `tags` (a list of label, score, seen; null for an unreadable photo), `error` and `note`.

    Args:
        records: path, and tags with or without a note, or error, as in a line of JSONL.
        target: the file.
    """
    pyarrow = import_pyarrow(os.fspath(target))
    tag = {"label": pyarrow.string(), "score": pyarrow.float32(), "seen": pyarrow.bool_()}
    tags, text = pyarrow.list_(pyarrow.struct(list(tag.items()))), pyarrow.string()
    columns = {"path": text, "path_bytes": pyarrow.binary(), "tags": tags, "error": text, "note": text}
    schema = pyarrow.schema(list(columns.items()))
    rows = map(_row, records)
    with pyarrow.parquet.ParquetWriter(target, schema) as writer:
        while group := list(islice(rows, ROWS_WRITTEN)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def read_rows(path: str) -> Iterator[dict[str, Any]]:
    """The records that `write_rows` wrote.

    Raises:
        ValueError: the file is not Parquet, or lacks the columns.
    """
    with _opened(path) as file:
        missing = {"path", "path_bytes", "tags", "error"} - set(file.schema_arrow.names)
        if missing:
            raise ValueError(f"it lacks the column {min(missing)}")
        for batch in _batches(file, ROWS_READ):
            for row in batch.to_pylist():
                if not isinstance(row["path_bytes"], bytes | None):
                    raise ValueError("its column path_bytes does not hold bytes")
                name = {} if row["path_bytes"] is None else {"path": os.fsdecode(row["path_bytes"])}
                yield {key: value for key, value in (row | name).items() if value is not None}


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Any]:
    """A file of Parquet; pyarrow's own exceptions become ValueErrors, which most of them are."""
    pyarrow = import_pyarrow(path)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield file
    except pyarrow.ArrowException as error:
        if isinstance(error, MemoryError):
            raise
        raise ValueError(reason_of(error)) from error


def _batches(file: Any, rows: int, **options: Any) -> Iterator[Any]:
    """A file's batches of at most `rows` rows; of damaged pages pyarrow gives fewer rows and no error."""
    found = 0
    for batch in file.iter_batches(rows, **options):
        found += batch.num_rows
        yield batch
    if found != file.metadata.num_rows:
        raise ValueError(f"it has {found:,} of the {file.metadata.num_rows:,} rows that its footer states")


def _row(record: dict[str, Any]) -> dict[str, Any]:
    name = os.fsencode(record["path"])
    text = name.decode("utf-8", "backslashreplace")
    return record | {"path": text, "path_bytes": None if text.encode() == name else name}
