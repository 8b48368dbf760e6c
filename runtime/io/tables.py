"""Photos named by a column of a table, CSV, TSV or Parquet, read row by row."""

import csv
import os
from collections.abc import Callable, Iterator
from typing import TextIO

from mlzsl.cli.errors import UsageError, reason_of
from mlzsl.runtime.io.parquet import read_column, read_column_names
from mlzsl.runtime.photos import Photo

TABLES = (".csv", ".tsv", ".parquet")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
COLUMNS_SHOWN = 8


def check_table(path: str, column: str) -> None:
    """Read a table's head before photos are tagged.

    Raises:
        UsageError: the table cannot be read, or lacks the column.
    """
    try:
        columns = _readers(path)[0](path)
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as a table: {reason_of(error)}.") from error
    if column not in columns:
        shown = ", ".join(columns[:COLUMNS_SHOWN]) + (", …" if len(columns) > COLUMNS_SHOWN else "")
        raise UsageError(
            f"--path-column {column}: {path} has no such column; its columns are {shown or 'none'}. "
            "Name the column with the photos' paths."
        )


def photos_in_table(path: str, column: str) -> Iterator[Photo]:
    """The photos that a table names, in its order; a row without a path, or a damaged table, gives a problem."""
    row = 0
    try:
        for row, name in enumerate(_readers(path)[1](path, column), start=1):
            yield Photo(name) if name else Photo(path, problem=f"row {row:,} names no photo")
    except (OSError, ValueError, KeyError, csv.Error) as error:
        yield Photo(path, problem=f"the table cannot be read beyond row {row:,}: {reason_of(error)}")


def _csv_names(path: str) -> list[str]:
    with _opened(path) as file:
        return next(csv.reader(file, delimiter=DELIMITERS[_suffix(path)]), [])


def _csv_column(path: str, column: str) -> Iterator[str | None]:
    with _opened(path) as file:
        rows = csv.reader(file, delimiter=DELIMITERS[_suffix(path)])
        index = next(rows, []).index(column)
        yield from (row[index] if index < len(row) else None for row in rows if row)  # a blank line is no row


def _opened(path: str) -> TextIO:
    return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _readers(path: str) -> tuple[Callable[[str], list[str]], Callable[[str, str], Iterator[str | None]]]:
    """The functions that read a table's column names, and a column."""
    return (read_column_names, read_column) if _suffix(path) == ".parquet" else (_csv_names, _csv_column)
