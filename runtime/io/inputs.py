"""The photos to tag, in files, tar shards and tables of paths, as one stream."""

import csv
import io
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from mlzsl.cli.errors import FailureError, UsageError, reason_of
from mlzsl.cli.inputs import encoding_by_mark
from mlzsl.imaging import TransientReadError, transient
from mlzsl.imaging.finding import find_images
from mlzsl.runtime.io.parquet import read_column_names, read_photos
from mlzsl.runtime.io.shards import SHARDS, photos_in_shard
from mlzsl.runtime.tags import Photo

PATH_COLUMN = "path"
TABLES = (".csv", ".tsv", ".parquet")
ARCHIVES = (".zip", ".7z", ".rar")
COLUMNS_SHOWN = 8


@dataclass
class PhotoInputs:
    """Inputs that were checked, and their files, which are listed once.

    Attributes:
        names: of the inputs.
        paths: of the files, in order; the first is found.
        path_column: the column of tables with the paths.
        skipped: counts, by suffix, the files in folders and shards that are not images by their names.
    """

    names: list[str]
    paths: Iterator[str]
    path_column: str
    skipped: Counter[str]

    def photos(self) -> Iterator[Photo]:
        """The photos in the files, in order."""
        return (photo for path in self.paths for photo in _photos_at(path, self.path_column, self.skipped))


def find_photos(
    inputs: Sequence[str | os.PathLike[str]],
    path_column: str = PATH_COLUMN,
    listed: io.BufferedIOBase | None = None,
    skipped: Counter[str] | None = None,
) -> Iterator[Photo]:
    """Find the photos of inputs, in order: those that `imaging.finding.find_images` finds, with two additions.

    - A tar shard (`.tar`, `.tar.gz`, `.tar.bz2`, `.tar.xz`) gives the images in it, in order, as `shard.tar/member`.
    - A table (`.csv`, `.tsv`, `.parquet`) gives the files that its path column names, or the images that it holds, row
      by row; relative paths start from the working directory.

    Args:
        inputs: files, folders, patterns, shards, tables, or `-`.
        path_column: the column of tables with the paths.
        listed: the list for `-`; None for standard input.
        skipped: counts, by suffix, the files in folders and shards that are not images by their names.

    Raises:
        UsageError: as `find_images`; or a named table cannot be read, or lacks the column.
    """
    return open_inputs(inputs, path_column, listed, skipped).photos()


def open_inputs(
    inputs: Sequence[str | os.PathLike[str]],
    path_column: str = PATH_COLUMN,
    listed: io.BufferedIOBase | None = None,
    skipped: Counter[str] | None = None,
) -> PhotoInputs:
    """Check inputs and find their first file; arguments and errors as `find_photos`."""
    names = [os.fspath(name) for name in inputs]
    others = Counter[str]() if skipped is None else skipped
    paths = find_images(names, listed, others)
    for name in names:
        if name.lower().endswith(TABLES) and os.path.isfile(name):
            check_table(name, path_column)
    return PhotoInputs(names, paths, path_column, others)


def holds_photos(path: str) -> bool:
    """Whether a path is a shard or a table by its name."""
    return path.lower().endswith(SHARDS + TABLES)


def _photos_at(path: str, path_column: str, skipped: Counter[str]) -> Iterator[Photo]:
    if path.lower().endswith(ARCHIVES):
        yield Photo(path, problem="an archive of a kind that is not read; unpack it, or pack its photos as .tar")
    elif not holds_photos(path) or not os.path.isfile(path):  # opening a pipe may block
        yield Photo(path)
    else:
        yield from (replace(photo, container=path) for photo in _photos_in(path, path_column, skipped))


def _photos_in(path: str, path_column: str, skipped: Counter[str]) -> Iterator[Photo]:
    """The photos of a shard or table, opened again where the machine failed.

    If it fails `imaging.transient.RETRY_DELAYS` in a row, the container itself follows the photos before the failure.
    """
    count, delays = 0, iter(transient.RETRY_DELAYS)
    while True:
        others = Counter[str]()
        found = photos_in_shard(path, others) if path.lower().endswith(SHARDS) else photos_in_table(path, path_column)
        try:
            for photo in islice(found, count, None):
                count, delays = count + 1, iter(transient.RETRY_DELAYS)
                yield photo
            break
        except TransientReadError as error:
            delay = next(delays, None)
            if delay is None:
                yield Photo(
                    path, problem=f"could not be read beyond its first {count:,} photos: {error}", transient=True
                )
                break
        time.sleep(delay)
    skipped.update(others)


# ---- tables ---------------------------------------------------------------------------------------------------------


def check_table(path: str, column: str) -> None:
    """Read a table's head before photos are tagged.

    Raises:
        UsageError: the table cannot be read, or lacks the column.
        FailureError: the machine failed while it was read.
    """
    try:
        columns = read_column_names(path) if path.lower().endswith(".parquet") else next(_csv_rows(path), [])
    except (OSError, ValueError, csv.Error) as error:
        if failure := transient.transient_error(error):
            raise FailureError(f"{path}: could not be read: {failure}. Try again.") from error
        raise UsageError(f"{path}: cannot be read as a table: {reason_of(error)}.") from error
    if column not in columns:
        shown = ", ".join(columns[:COLUMNS_SHOWN]) + (", …" if len(columns) > COLUMNS_SHOWN else "")
        raise UsageError(
            f"--path-column {column}: {path} has no such column; its columns are {shown or 'none'}. "
            "Name the column with the photos' paths."
        )


def photos_in_table(path: str, column: str) -> Iterator[Photo]:
    """The photos that a table names or holds, in its order; an empty row, or a damaged table, gives a problem.

    A photo whose bytes are in the table is recorded as `table.parquet/PATH`, or with its row where it has no path.

    Raises:
        TransientReadError: the machine failed.
    """
    row = 0
    try:
        rows = read_photos(path, column) if path.lower().endswith(".parquet") else _csv_column(path, column)
        for row, (name, content) in enumerate(rows, start=1):
            if content is not None:
                yield Photo(f"{path}/{name or f'row {row}'}", content)
            else:
                yield Photo(name) if name else Photo(path, problem=f"row {row:,} names no photo")
    except (OSError, MemoryError, ValueError, KeyError, csv.Error) as error:
        if failure := transient.transient_error(error):
            raise failure from error
        yield Photo(path, problem=f"the table cannot be read beyond row {row:,}: {reason_of(error)}")


def _csv_rows(path: str) -> Iterator[list[str]]:
    with open(path, "rb") as content:
        if encoding := encoding_by_mark(content.read(4)):
            raise ValueError(f"it is in {encoding} by its byte-order mark, not in UTF-8")
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        yield from csv.reader(file, delimiter="\t" if path.lower().endswith(".tsv") else ",")


def _csv_column(path: str, column: str) -> Iterator[tuple[str | None, None]]:
    rows = _csv_rows(path)
    index = next(rows, []).index(column)
    return ((row[index] if index < len(row) else None, None) for row in rows if row)  # a blank line is no row
