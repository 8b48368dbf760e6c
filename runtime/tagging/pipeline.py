"""The pipeline from paths to tags: decode in threads, fill batches, keep the engine busy, return results in order.

    photos ──► decode threads ──► batches ──► engine, several in flight ──► tags, in the order of the photos

Every queue is bounded, so memory does not grow with the number of photos. An unreadable photo is in no batch: it is
returned with its error. Where a batch ends depends on the photos alone, never on timing. Where the machine fails to
read many photos in a row, as when storage is gone, the pipeline ends.
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

from mlzsl.cli.errors import FailureError, reason_of
from mlzsl.cli.text import escape_control_chars
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images, Scores
from mlzsl.engines.engine import Engine, available_cpus
from mlzsl.imaging import DecodedPhoto, Preprocessing, TransientReadError, UnreadableImage, decode_photo
from mlzsl.runtime.tags import Photo, Selection, Tagged, select_tags

DEFAULT_BATCH_SIZE = 16
BATCHES_DECODED_AHEAD = 2
MAX_WAITING_ERRORS = 1024
MAX_FAILURES_IN_A_ROW = 20  # photos that the machine failed to read
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
        FailureError: the engine failed, a score is NaN or infinite, or the machine failed to read
            MAX_FAILURES_IN_A_ROW photos; it is raised after the last of them.
    """
    with contextlib.closing(_decoded(photos, engine.manifest, batch_size, threads)) as decoded:
        queue = _Queue(decoded, batch_size)
        while not queue.exhausted:
            with contextlib.closing(engine.run(queue.batches())) as results:
                for scores in results:
                    yield from queue.tagged(scores, engine, selection)
            yield from queue.leading_errors()
        if queue.failures == MAX_FAILURES_IN_A_ROW:
            raise FailureError(
                f"the machine failed to read {queue.failures} photos in a row (the last: {queue.last_failure}); check "
                "its storage and memory."
            )


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
    """Batches of the readable photos.

    Attributes:
        unreadable: the indices of the others among the paths.
        first_error: the first of them, with its error.
    """

    def __init__(
        self, paths: Iterable[str], manifest: Manifest, batch_size: int = DEFAULT_BATCH_SIZE, threads: int | None = None
    ) -> None:
        self.unreadable: list[int] = []
        self.first_error = ""
        self._batch_size = batch_size
        self._decoded = _decoded(paths, manifest, batch_size, threads)

    def images(self) -> Iterator[Images]:
        """Batches as uint8 [n, S, S, 3], once.

        Raises:
            FailureError: the machine failed to read a photo.
        """
        with contextlib.closing(self._decoded):
            readable = self._readable_images()
            while batch := list(islice(readable, self._batch_size)):
                yield np.stack(batch)

    def _readable_images(self) -> Iterator[Images]:
        for index, (photo, decoded) in enumerate(self._decoded):
            if isinstance(decoded, DecodedPhoto):
                yield decoded.image
            elif isinstance(decoded, TransientReadError):
                raise FailureError(f"{_described(photo, decoded)}: the machine failed to read it; try again.")
            else:
                self.unreadable.append(index)
                self.first_error = self.first_error or _described(photo, decoded)

    def readable(self, paths: Sequence[str]) -> list[str]:
        """The paths of the readable photos, once all are decoded."""
        unreadable = set(self.unreadable)
        return [path for index, path in enumerate(paths) if index not in unreadable]


Decoded = DecodedPhoto | UnreadableImage | TransientReadError


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
            try:
                started.append((item, pool.submit(function, item)))
            except RuntimeError as error:  # the operating system starts no more threads, for want of memory
                raise FailureError(
                    f"a thread to decode photos: {reason_of(error)}; free memory, or lower --threads."
                ) from error
        yield from ((item, result.result()) for item, result in started)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decoded(
    photos: Iterable[str | Photo], manifest: Manifest, batch_size: int, threads: int | None
) -> Generator[tuple[Photo, Decoded]]:
    """Each photo with its image, or why there is none, in order, a few batches ahead."""
    items = (Photo(photo) if isinstance(photo, str) else photo for photo in photos)
    ahead = BATCHES_DECODED_AHEAD * batch_size
    decode = functools.partial(_decode, preprocessing=Preprocessing.from_json(manifest.preprocessing))
    with contextlib.closing(map_ahead(decode, items, threads, ahead, _size)) as found:
        yield from found


def _size(photo: Photo) -> int:
    return len(photo.content) if isinstance(photo.content, bytes) else 0


def _decode(photo: Photo, preprocessing: Preprocessing) -> Decoded:
    if photo.problem is not None:
        return TransientReadError(photo.problem) if photo.transient else UnreadableImage(photo.problem)
    if photo.decoded is not None:
        return photo.decoded
    try:
        return decode_photo(Path(photo.path) if photo.content is None else photo.content, preprocessing)
    except (UnreadableImage, TransientReadError) as error:
        return type(error)(str(error))  # without its traceback, which keeps memory


def _described(photo: Photo, error: Exception) -> str:
    return f"{escape_control_chars(photo.path)}: {error}"


class _Queue:
    """Photos whose scores are pending, in order; fills batches with their images."""

    def __init__(self, decoded: Iterator[tuple[Photo, Decoded]], batch_size: int) -> None:
        self.exhausted = False
        self.failures = 0  # of the machine, in a row
        self.last_failure = ""
        self._decoded = decoded
        self._ends = BatchEnds(batch_size)
        self._images: list[Images] = []  # of the batch that is being filled
        self._waiting: deque[Tagged] = deque()  # those without an error get their tags when they leave
        self._errors = 0  # among those waiting

    def batches(self) -> Iterator[Images]:
        """Batches, uint8 [n, S, S, 3]; ends early if too many errors wait for photos before them."""
        for photo, decoded in self._decoded:
            if isinstance(decoded, DecodedPhoto):
                self._waiting.append(Tagged(photo.path, note=decoded.note))
                self._images.append(decoded.image)
            else:
                transient = isinstance(decoded, TransientReadError)
                self._waiting.append(Tagged(photo.path, error=str(decoded), transient=transient))
                self._errors += 1
            self._count_failures(photo, decoded)
            if self.failures == MAX_FAILURES_IN_A_ROW:
                break
            if self._ends.add(isinstance(decoded, DecodedPhoto)):
                yield np.stack(self._images)
                self._images.clear()
            if self._errors >= MAX_WAITING_ERRORS:
                return
        self.exhausted = True
        if self._images:
            yield np.stack(self._images)

    def tagged(self, scores: Scores, engine: Engine, selection: Selection) -> Iterator[Tagged]:
        """The photos of one batch, and the unreadable ones before and between them."""
        for row in scores:
            yield from self.leading_errors()
            photo = self._waiting.popleft()
            yield Tagged(photo.path, select_tags(row, engine.manifest, selection), note=photo.note)

    def leading_errors(self) -> Iterator[Tagged]:
        """The unreadable photos at the head of the queue."""
        while self._waiting and self._waiting[0].error is not None:
            self._errors -= 1
            yield self._waiting.popleft()

    def _count_failures(self, photo: Photo, decoded: Decoded) -> None:
        if photo.after_others:
            self.failures = 0
        self.failures = self.failures + 1 if isinstance(decoded, TransientReadError) else 0
        if isinstance(decoded, TransientReadError):
            self.last_failure = _described(photo, decoded)
