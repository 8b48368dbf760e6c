"""The photos to tag, in files, tar shards and tables of paths, as one stream."""

import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence

from mlzsl.imaging.finding import find_images
from mlzsl.runtime.io.shards import SHARDS, photos_in_shard
from mlzsl.runtime.io.tables import TABLES, check_table, photos_in_table
from mlzsl.runtime.photos import Photo

PATH_COLUMN = "path"


def find_photos(
    inputs: Sequence[str | os.PathLike[str]],
    path_column: str = PATH_COLUMN,
    listed: io.BufferedIOBase | None = None,
    skipped: Counter[str] | None = None,
) -> Iterator[Photo]:
    """Find the photos of inputs, in order: those that `imaging.finding.find_images` finds, with two additions.

    - A tar shard (`.tar`, `.tar.gz`, `.tgz`) gives the images in it, in their order, as `shard.tar/member`.
    - A table (`.csv`, `.tsv`, `.parquet`) gives the files that its path column names, row by row; relative paths start
      from the working directory.

    Args:
        inputs: files, folders, patterns, shards, tables, or `-`.
        path_column: the column of tables with the paths.
        listed: the list for `-`; None for standard input.
        skipped: counts, by suffix, the files in folders and shards that are not images by their names.

    Raises:
        UsageError: as `find_images`; or a named table cannot be read, or lacks the column.
    """
    names = [os.fspath(name) for name in inputs]
    others = Counter[str]() if skipped is None else skipped
    paths = find_images(names, listed, others)
    for name in names:
        if name.lower().endswith(TABLES) and os.path.isfile(name):
            check_table(name, path_column)
    return (photo for path in paths for photo in _photos_at(path, path_column, others))


def holds_photos(path: str) -> bool:
    """Whether a path is a shard or a table by its name."""
    return path.lower().endswith(SHARDS + TABLES)


def _photos_at(path: str, path_column: str, skipped: Counter[str]) -> Iterator[Photo]:
    if not holds_photos(path) or not os.path.isfile(path):  # opening a pipe may block
        yield Photo(path)
    elif path.lower().endswith(SHARDS):
        yield from photos_in_shard(path, skipped)
    else:
        yield from photos_in_table(path, path_column)
