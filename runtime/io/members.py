"""Photos in shards and Parquet, read back by the names under which they were recorded."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import cast

from mlzsl.imaging.transient import retried
from mlzsl.runtime.io.inputs import PATH_COLUMN, photos_in_table
from mlzsl.runtime.io.shards import SHARDS, photos_in_shard
from mlzsl.runtime.tags import Photo

PARQUET = ".parquet"


class MemberReader:
    """Reads photos back; those of a shard or Parquet file in its order take one pass over it."""

    def __init__(self, path_column: str = PATH_COLUMN) -> None:
        """`path_column` is the column of Parquet files with the photos."""
        self._path_column = path_column
        self.close()

    def close(self) -> None:
        """Close the file that is open."""
        self._container: str | None = None
        self._members: Iterator[Photo] = iter(())

    def read(self, path: str) -> bytes | None:
        """The bytes of a photo that is recorded as `shard.tar/member` or `table.parquet/name`.

        Returns:
            None if there is no such shard or table, or no such photo in it.

        Raises:
            TransientReadError: the machine failed each time that the shard or table was read.
        """
        return retried(lambda: self._read(path))

    def _read(self, path: str) -> bytes | None:
        container = _container_of(path)
        if container is None:
            return None
        if container == self._container and (content := self._next(path)) is not None:
            return content
        is_table = container.lower().endswith(PARQUET)
        self._members = (
            photos_in_table(container, self._path_column) if is_table else photos_in_shard(container, Counter())
        )
        self._container = container
        return self._next(path)

    def _next(self, path: str) -> bytes | None:
        return next((cast(bytes, photo.content) for photo in self._members if photo.path == path), None)


def _container_of(path: str) -> str | None:
    """The shard or table in a recorded name."""
    suffixes = (*SHARDS, PARQUET)
    found = (path[:end] for end, letter in enumerate(path) if letter == "/" and path[:end].lower().endswith(suffixes))
    return next(filter(os.path.isfile, found), None)
