"""Batches of any size are returned complete and in order, with one piece running on every slot."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlzsl.cli.errors import FailureError
from mlzsl.engines.tensorrt.batches import scored_in_order, split

sizes = st.lists(st.integers(1, 40), max_size=12)


class Sums:
    """A slot whose score of an image is the sum of its pixels, computed by `finish`."""

    running = 0
    most_running = 0

    def __init__(self, fails_at: int | None = None) -> None:
        self.images: np.ndarray | None = None
        self.fails_at = fails_at
        self.finished = 0

    def start(self, images: np.ndarray) -> None:
        assert self.images is None, "a slot was started twice"
        if self.fails_at == 0:
            raise FailureError("no memory")
        self.images = images
        Sums.running += 1
        Sums.most_running = max(Sums.most_running, Sums.running)

    def finish(self) -> np.ndarray:
        assert self.images is not None, "a slot was waited for without a piece"
        images, self.images = self.images, None
        Sums.running -= 1
        self.finished += 1
        if self.fails_at == self.finished:
            raise FailureError("the GPU fell off the bus")
        return images.reshape(len(images), -1).sum(axis=1, keepdims=True).astype(np.float32)


@pytest.fixture(autouse=True)
def _all_slots_finished() -> Iterator[None]:
    Sums.running = Sums.most_running = 0
    yield
    assert Sums.running == 0, "everything that was started was waited for"


def random_batch(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 2, 2, 3), np.uint8)


def unchecked(images: np.ndarray) -> np.ndarray:
    return images


def sums(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).sum(axis=1, keepdims=True).astype(np.float32)


@given(sizes, st.integers(1, 5), st.integers(1, 9))
@settings(max_examples=150)
def test_batches_of_any_size_are_returned_in_order(counts: list[int], slots: int, most: int) -> None:
    batches = [random_batch(count, seed) for seed, count in enumerate(counts)]
    results = list(scored_in_order(iter(batches), [Sums() for _ in range(slots)], most, unchecked))
    assert len(results) == len(batches)
    for batch, scores in zip(batches, results, strict=True):
        np.testing.assert_array_equal(scores, sums(batch))


@given(st.integers(1, 500), st.integers(1, 70))
def test_a_batch_is_split_into_as_few_pieces_as_possible_of_nearly_one_size(count: int, most: int) -> None:
    images = random_batch(count, 0)
    pieces = list(split(images, most))
    np.testing.assert_array_equal(np.concatenate(pieces), images)
    lengths = [len(piece) for piece in pieces]
    assert len(pieces) == -(-count // most)
    assert max(lengths) <= most
    assert max(lengths) - min(lengths) <= 1


def test_as_many_pieces_run_as_there_are_slots() -> None:
    list(scored_in_order([random_batch(10, 0)] * 5, [Sums() for _ in range(3)], 4, unchecked))
    assert Sums.most_running == 3


def test_batches_are_taken_no_further_ahead_than_can_run() -> None:
    pulled = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal pulled
        for seed in range(30):
            pulled += 1
            yield random_batch(2, seed)

    results = scored_in_order(source(), [Sums() for _ in range(3)], 8, unchecked)
    for taken, _ in enumerate(results, 1):
        assert pulled <= taken + 3


def test_closing_early_waits_for_running_pieces() -> None:
    results = scored_in_order((random_batch(3, i) for i in range(50)), [Sums() for _ in range(3)], 8, unchecked)
    next(results)
    results.close()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_failing_slot_ends_the_run_with_its_error(at: int) -> None:
    slots = [Sums(), Sums(fails_at=at), Sums()]
    with pytest.raises(FailureError):
        list(scored_in_order([random_batch(3, i) for i in range(9)], slots, 8, unchecked))


def test_a_failing_source_or_check_is_passed_on() -> None:
    def source() -> Iterator[np.ndarray]:
        yield random_batch(2, 0)
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        list(scored_in_order(source(), [Sums(), Sums()], 8, unchecked))

    def check(images: np.ndarray) -> np.ndarray:
        raise FailureError("no images")

    with pytest.raises(FailureError, match="no images"):
        list(scored_in_order([random_batch(2, 0)], [Sums()], 8, check))
