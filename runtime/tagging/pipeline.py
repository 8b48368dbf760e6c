"""The pipeline from paths to tags: decode in threads, fill batches, keep the engine busy, give results in order.

    photos ──► decode threads ──► batches ──► engine, several in flight ──► tags, in the order of the photos

Every queue is bounded, so memory does not grow with the number of photos. A photo that cannot be read takes no place
in a batch: it passes by with its reason. Where a batch ends depends on the photos alone, never on what was faster.
"""

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mlzsl.engines.artifact.modelfile import Images, Scores
from mlzsl.engines.engine import Engine, available_cpus
from mlzsl.imaging import Preprocessing, UnreadableImage, load_image
from mlzsl.runtime.photos import Photo
from mlzsl.runtime.tags import Selection, Tagged, select_tags

DEFAULT_BATCH_SIZE = 16
BATCHES_DECODED_AHEAD = 2
MOST_ERRORS_HELD_BACK = 1024
MOST_BYTES_AHEAD = 1 << 29  # of photos that come as bytes


def tag_photos(
    engine: Engine,
    photos: Iterable[str | Photo],
    selection: Selection,
    batch_size: int = DEFAULT_BATCH_SIZE,
    threads: int | None = None,
) -> Iterator[Tagged]:
    """Tag photos as they come.

    Args:
        engine: what scores them; its manifest says how they are preprocessed.
        photos: photos, or the paths of image files, in any number; a few batches are read ahead.
        selection: the rule that makes tags of scores.
        batch_size: photos a batch.
        threads: how many decode at once; None takes every core.

    Yields:
        One `Tagged` for each photo, in their order. Closing the iterator early stops all threads.
    """
    preprocessing = Preprocessing.from_json(engine.manifest.preprocessing)
    pool = ThreadPoolExecutor(threads or available_cpus(), thread_name_prefix="decode")
    try:
        decoded = _decoded(pool, photos, preprocessing, ahead=BATCHES_DECODED_AHEAD * batch_size)
        feed = _Feed(decoded, batch_size)
        while not feed.exhausted:
            with contextlib.closing(engine.run(feed.batches())) as results:
                for scores in results:
                    yield from feed.tagged(scores, engine, selection)
            yield from feed.errors_at_the_front()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class BatchEnds:
    """Where batches end: when they are full, or when too many unreadable photos wait behind their first picture."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._pictures = self._errors = 0

    @property
    def between_batches(self) -> bool:
        """Whether no batch has been begun."""
        return self._pictures == 0

    def add(self, readable: bool) -> bool:
        """Count one photo, and say whether a batch ends with it."""
        if readable:
            self._pictures += 1
        elif self._pictures:
            self._errors += 1
        ends = self._pictures == self._batch_size or self._errors == MOST_ERRORS_HELD_BACK
        if ends:
            self._pictures = self._errors = 0
        return ends


class ReadableBatches:
    """The photos that can be read, in batches; `unreadable` holds the places of the others among the paths."""

    def __init__(
        self, paths: Iterable[str], preprocessing: Preprocessing, batch_size: int, threads: int | None = None
    ) -> None:
        self.unreadable: list[int] = []
        self._paths, self._preprocessing = paths, preprocessing
        self._batch_size, self._threads = batch_size, threads

    def images(self) -> Iterator[Images]:
        """Batches as uint8 [n, S, S, 3]."""
        with ThreadPoolExecutor(self._threads or available_cpus(), thread_name_prefix="decode") as pool:
            ahead = BATCHES_DECODED_AHEAD * self._batch_size
            pictures: list[Images] = []
            for place, (_, picture) in enumerate(_decoded(pool, self._paths, self._preprocessing, ahead)):
                if isinstance(picture, UnreadableImage):
                    self.unreadable.append(place)
                    continue
                pictures.append(picture)
                if len(pictures) == self._batch_size:
                    yield np.stack(pictures)
                    pictures = []
            if pictures:
                yield np.stack(pictures)


Decoded = Images | UnreadableImage  # uint8 [S, S, 3], or why not


def _decoded(
    pool: ThreadPoolExecutor, photos: Iterable[str | Photo], preprocessing: Preprocessing, ahead: int
) -> Iterator[tuple[str, Decoded]]:
    """Each photo's path with its picture, in order, at most `ahead` of them in work or waiting."""
    started: deque[tuple[Photo, Future[Decoded]]] = deque()
    held = 0  # bytes of the photos that came as such

    def finished() -> tuple[str, Decoded]:
        nonlocal held
        photo, picture = started.popleft()
        held -= len(photo.content or b"")
        return photo.path, picture.result()

    for photo in photos:
        if isinstance(photo, str):
            photo = Photo(photo)
        while started and (len(started) == ahead or held > MOST_BYTES_AHEAD):
            yield finished()
        held += len(photo.content or b"")
        started.append((photo, pool.submit(_decode, photo, preprocessing)))
    while started:
        yield finished()


def _decode(photo: Photo, preprocessing: Preprocessing) -> Decoded:
    if photo.problem is not None:
        return UnreadableImage(photo.problem)
    try:
        return load_image(Path(photo.path) if photo.content is None else photo.content, preprocessing)
    except UnreadableImage as error:
        return error


class _Feed:
    """Groups pictures in batches, and remembers whose scores are still to come, in order."""

    def __init__(self, decoded: Iterator[tuple[str, Decoded]], batch_size: int) -> None:
        self.exhausted = False
        self._decoded = decoded
        self._ends = BatchEnds(batch_size)
        self._pictures: list[Images] = []  # of the batch that is being filled
        self._waiting: deque[tuple[str, UnreadableImage | None]] = deque()
        self._errors = 0  # among those waiting

    def batches(self) -> Iterator[Images]:
        """Batches, uint8 [n, S, S, 3].

        They pause where too many errors are held back by photos before them: those must first be done.
        """
        for path, picture in self._decoded:
            if isinstance(picture, UnreadableImage):
                self._waiting.append((path, picture))
                self._errors += 1
            else:
                self._waiting.append((path, None))
                self._pictures.append(picture)
            if self._ends.add(not isinstance(picture, UnreadableImage)):
                yield self._batch()
            if self._errors >= MOST_ERRORS_HELD_BACK:
                return
        self.exhausted = True
        if self._pictures:
            yield self._batch()

    def _batch(self) -> Images:
        pictures, self._pictures = self._pictures, []
        return np.stack(pictures)

    def tagged(self, scores: Scores, engine: Engine, selection: Selection) -> Iterator[Tagged]:
        """The photos of one batch, and the unreadable ones before and between them."""
        for row in scores:
            yield from self.errors_at_the_front()
            path, _ = self._waiting.popleft()
            yield Tagged(path, select_tags(row, engine.manifest, selection))

    def errors_at_the_front(self) -> Iterator[Tagged]:
        """The unreadable photos that wait for nothing any more."""
        while self._waiting and (error := self._waiting[0][1]) is not None:
            path, _ = self._waiting.popleft()
            self._errors -= 1
            yield Tagged(path, error=str(error))
