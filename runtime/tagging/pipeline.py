"""The pipeline from paths to tags: decode in threads, fill batches, keep the engine busy, return results in order.

    photos ──► decode threads ──► batches ──► engine, several in flight ──► tags, in the order of the photos

Every queue is bounded, so memory does not grow with the number of photos. An unreadable photo is in no batch: it is
returned with its error. Where a batch ends depends on the photos alone, never on timing.
"""

import contextlib
import functools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from mlzsl.cli.errors import FailureError
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images, Scores
from mlzsl.engines.engine import Engine, available_cpus
from mlzsl.imaging import Preprocessing, TransientReadError, UnreadableImage, load_image
from mlzsl.runtime.tags import Photo, Selection, Tagged, select_tags

DEFAULT_BATCH_SIZE = 16
BATCHES_DECODED_AHEAD = 2
MAX_WAITING_ERRORS = 1024
MAX_BYTES_AHEAD = 1 << 29  # of photos that come as bytes

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def tag_photos(
    engine: Engine,
    photos: Iterable[str | Photo],
    selection: Selection,
    batch_size: int = DEFAULT_BATCH_SIZE,
    threads: int | None = None,
) -> Iterator[Tagged]:
    """Tag photos as they come.

    Args:
        engine: scores them; its manifest states their preprocessing.
        photos: photos, or paths of image files, any number of them; a few batches are read ahead.
        selection: the rule that selects tags by score.
        batch_size: photos per batch.
        threads: that decode; None for one per core.

    Yields:
        One `Tagged` for each photo, in order. Closing the iterator early stops all threads.

    Raises:
        FailureError: the engine failed, or a score is NaN or infinite.
    """
    with contextlib.closing(_decoded(photos, engine.manifest, batch_size, threads)) as decoded:
        queue = _Queue(decoded, batch_size)
        while not queue.exhausted:
            with contextlib.closing(engine.run(queue.batches())) as results:
                for scores in results:
                    yield from queue.tagged(scores, engine, selection)
            yield from queue.leading_errors()


class BatchEnds:
    """Where batches end: when full, or when too many unreadable photos wait behind the batch's first photo."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._images = self._errors = 0

    @property
    def between_batches(self) -> bool:
        """Whether no batch is partly filled."""
        return self._images == 0

    def add(self, readable: bool) -> bool:
        """Count one photo; returns whether a batch ends with it."""
        if readable:
            self._images += 1
        elif self._images:
            self._errors += 1
        ends = self._images == self._batch_size or self._errors == MAX_WAITING_ERRORS
        if ends:
            self._images = self._errors = 0
        return ends


class ReadableBatches:
    """Batches of the readable photos; `unreadable` holds the indices of the others among the paths."""

    def __init__(
        self, paths: Iterable[str], manifest: Manifest, batch_size: int = DEFAULT_BATCH_SIZE, threads: int | None = None
    ) -> None:
        self.unreadable: list[int] = []
        self._batch_size = batch_size
        self._decoded = _decoded(paths, manifest, batch_size, threads)

    def images(self) -> Iterator[Images]:
        """Batches as uint8 [n, S, S, 3], once."""
        with contextlib.closing(self._decoded):
            readable = self._readable_images()
            while batch := list(islice(readable, self._batch_size)):
                yield np.stack(batch)

    def _readable_images(self) -> Iterator[Images]:
        for index, (_, image) in enumerate(self._decoded):
            if isinstance(image, UnreadableImage):
                self.unreadable.append(index)
            else:
                yield image

    def readable(self, paths: Sequence[str]) -> list[str]:
        """The paths of the readable photos, once all are decoded."""
        unreadable = set(self.unreadable)
        return [path for index, path in enumerate(paths) if index not in unreadable]


Decoded = Images | UnreadableImage  # uint8 [S, S, 3], or why there is none


def map_ahead(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    threads: int | None,
    ahead: int,
    size: Callable[[_Item], int] = lambda _: 0,
) -> Generator[tuple[_Item, _Result]]:
    """Map in threads: each item with its result, in order, at most `ahead` of them running or waiting.

    Args:
        function: runs in a thread.
        items: read only as far ahead as needed.
        threads: how many; None for one per core.
        ahead: bounds the number of items in memory.
        size: of an item in bytes; no further item is read while those in memory exceed MAX_BYTES_AHEAD.
    """
    started: deque[tuple[_Item, Future[_Result]]] = deque()
    bytes_ahead = 0
    pool = ThreadPoolExecutor(threads or available_cpus(), thread_name_prefix="decode")
    try:
        for item in items:
            while started and (len(started) == ahead or bytes_ahead > MAX_BYTES_AHEAD):
                first, result = started.popleft()
                bytes_ahead -= size(first)
                yield first, result.result()
            bytes_ahead += size(item)
            started.append((item, pool.submit(function, item)))
        yield from ((item, result.result()) for item, result in started)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decoded(
    photos: Iterable[str | Photo], manifest: Manifest, batch_size: int, threads: int | None
) -> Generator[tuple[str, Decoded]]:
    """Each photo's path with its image, in order, a few batches ahead."""
    items = (Photo(photo) if isinstance(photo, str) else photo for photo in photos)
    ahead = BATCHES_DECODED_AHEAD * batch_size
    decode = functools.partial(_decode, preprocessing=Preprocessing.from_json(manifest.preprocessing))
    with contextlib.closing(map_ahead(decode, items, threads, ahead, lambda photo: len(photo.content or b""))) as found:
        for photo, image in found:
            yield photo.path, image


def _decode(photo: Photo, preprocessing: Preprocessing) -> Decoded:
    if photo.problem is not None:
        return UnreadableImage(photo.problem)
    try:
        return load_image(Path(photo.path) if photo.content is None else photo.content, preprocessing)
    except UnreadableImage as error:
        return error
    except TransientReadError as error:
        return UnreadableImage(str(error))


class _Queue:
    """Photos whose scores are pending, in order; fills batches with their images."""

    def __init__(self, decoded: Iterator[tuple[str, Decoded]], batch_size: int) -> None:
        self.exhausted = False
        self._decoded = decoded
        self._ends = BatchEnds(batch_size)
        self._images: list[Images] = []  # of the batch that is being filled
        self._waiting: deque[str | Tagged] = deque()  # paths of readable photos, and unreadable photos
        self._errors = 0  # among those waiting

    def batches(self) -> Iterator[Images]:
        """Batches, uint8 [n, S, S, 3]; ends early if too many errors wait for photos before them."""
        for path, image in self._decoded:
            readable = not isinstance(image, UnreadableImage)
            if isinstance(image, UnreadableImage):
                self._waiting.append(Tagged(path, error=str(image)))
                self._errors += 1
            else:
                self._waiting.append(path)
                self._images.append(image)
            if self._ends.add(readable):
                yield np.stack(self._images)
                self._images.clear()
            if self._errors >= MAX_WAITING_ERRORS:
                return
        self.exhausted = True
        if self._images:
            yield np.stack(self._images)

    def tagged(self, scores: Scores, engine: Engine, selection: Selection) -> Iterator[Tagged]:
        """The photos of one batch, and the unreadable ones before and between them.

        Raises:
            FailureError: a score is NaN or infinite.
        """
        if not np.isfinite(scores).all():
            raise FailureError(
                f"a score is NaN or infinite on {engine.execution}; check the engine with mlzsl-verify, or run the "
                "model in another precision."
            )
        for row in scores:
            yield from self.leading_errors()
            yield Tagged(str(self._waiting.popleft()), select_tags(row, engine.manifest, selection))

    def leading_errors(self) -> Iterator[Tagged]:
        """The unreadable photos at the head of the queue."""
        while self._waiting and isinstance(first := self._waiting[0], Tagged):
            self._waiting.popleft()
            self._errors -= 1
            yield first
