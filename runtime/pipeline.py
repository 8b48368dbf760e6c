"""The pipeline from paths to tags: decode in threads, fill batches, keep the engine busy, give results in order.

    paths ──► decode threads ──► batches ──► engine, several in flight ──► tags, in the order of the paths

Every queue is bounded, so memory does not grow with the number of photos. A photo that cannot be read takes no place
in a batch: it passes by with its reason.
"""

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mlzsl.engines.engine import Engine, available_cpus
from mlzsl.engines.modelfile import Images, Scores
from mlzsl.imaging import Preprocessing, UnreadableImage, load_image
from mlzsl.runtime.tags import Selection, Tagged, select_tags

DEFAULT_BATCH_SIZE = 16
BATCHES_DECODED_AHEAD = 2
MOST_ERRORS_HELD_BACK = 1024


def tag_photos(
    engine: Engine,
    paths: Iterable[str],
    selection: Selection,
    batch_size: int = DEFAULT_BATCH_SIZE,
    threads: int | None = None,
) -> Iterator[Tagged]:
    """Tag photos as they come.

    Args:
        engine: what scores them; its manifest says how they are preprocessed.
        paths: image files, in any number; a few batches are read ahead.
        selection: the rule that makes tags of scores.
        batch_size: photos a batch.
        threads: how many decode at once; None takes every core.

    Yields:
        One `Tagged` for each path, in their order. Closing the iterator early stops all threads.
    """
    preprocessing = Preprocessing.from_json(engine.manifest.preprocessing)
    pool = ThreadPoolExecutor(threads or available_cpus(), thread_name_prefix="decode")
    try:
        decoded = _decoded(pool, paths, preprocessing, ahead=BATCHES_DECODED_AHEAD * batch_size)
        feed = _Feed(decoded, batch_size)
        while not feed.exhausted:
            with contextlib.closing(engine.run(feed.batches())) as results:
                for scores in results:
                    yield from feed.tagged(scores, engine, selection)
            yield from feed.errors_at_the_front()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


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
    pool: ThreadPoolExecutor, paths: Iterable[str], preprocessing: Preprocessing, ahead: int
) -> Iterator[tuple[str, Decoded]]:
    """Each path with its picture, in order, at most `ahead` of them in work or waiting."""
    started: deque[tuple[str, Future[Decoded]]] = deque()
    for path in paths:
        if len(started) == ahead:
            name, picture = started.popleft()
            yield name, picture.result()
        started.append((path, pool.submit(_decode, path, preprocessing)))
    while started:
        name, picture = started.popleft()
        yield name, picture.result()


def _decode(path: str, preprocessing: Preprocessing) -> Decoded:
    try:
        return load_image(Path(path), preprocessing)
    except UnreadableImage as error:
        return error


class _Feed:
    """Groups pictures in batches, and remembers whose scores are still to come, in order."""

    def __init__(self, decoded: Iterator[tuple[str, Decoded]], batch_size: int) -> None:
        self.exhausted = False
        self._decoded = decoded
        self._batch_size = batch_size
        self._waiting: deque[tuple[str, UnreadableImage | None]] = deque()
        self._errors = 0  # among those waiting

    def batches(self) -> Iterator[Images]:
        """Full batches, and a last one that may be smaller; uint8 [n, S, S, 3].

        They end early where too many errors are held back by photos before them: those must first be done.
        """
        pictures: list[Images] = []
        for path, picture in self._decoded:
            if isinstance(picture, UnreadableImage):
                self._waiting.append((path, picture))
                self._errors += 1
                if self._errors >= MOST_ERRORS_HELD_BACK:
                    break
                continue
            self._waiting.append((path, None))
            pictures.append(picture)
            if len(pictures) == self._batch_size:
                yield np.stack(pictures)
                pictures = []
        else:
            self.exhausted = True
        if pictures:
            yield np.stack(pictures)

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
