"""How an engine performs under load: batches of random images of one size, a fixed number of them in flight.

Repeated measurements are summarized as median with range, latencies as percentiles.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import psutil

from mlzsl.cli.errors import UsageError
from mlzsl.cli.progress import progress
from mlzsl.engines.artifact.modelfile import Images
from mlzsl.engines.engine import Engine

BATCH_SIZES = (1, 4, 16, 32)
REPEATS, SECONDS = 5, 1.0
MIN_BATCHES = 3  # of a repeat, however long they take
PERCENTILES = (50, 90, 99)
Clock = Callable[[], float]
_Repeat = tuple[float, list[float], int]  # photos per second, seconds of each batch, most resident bytes


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of repeated measurements."""

    median: float
    low: float
    high: float


def spread(measurements: Sequence[float]) -> Spread:
    """Summarize at least one measurement."""
    return Spread(median(measurements), min(measurements), max(measurements))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """The ratio of our rates to theirs.

    It is taken within each repeat, where both ran one right after the other, and then summarized: other work on the
    machine that slows a whole repeat changes no ratio.

    Args:
        ours, theirs: rates, one a repeat, in the same order.
    """
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


@dataclass(frozen=True)
class Latency:
    """How long batches took.

    Attributes:
        batches: how many were measured; with fewer than a hundred, p99 is close to the maximum.
        p50, p90, p99: percentiles in seconds, interpolated linearly.
    """

    batches: int
    p50: float
    p90: float
    p99: float


def latency(seconds: Sequence[float]) -> Latency:
    """The percentiles of at least one batch's latency."""
    return Latency(len(seconds), *(float(value) for value in np.percentile(seconds, PERCENTILES)))


@dataclass(frozen=True)
class Load:
    """Batches of `batch_size` images, `in_flight` of them at once."""

    batch_size: int
    in_flight: int


@dataclass(frozen=True)
class LoadResult:
    """How an engine performed under one load.

    Attributes:
        load: the load.
        photos_per_second: over the repeats.
        latency: of all batches of all repeats, from when the engine starts a batch to its scores.
        resident_bytes: the most memory that the process held in the first repeat. Loads run in order of images in
            flight, since libraries keep the memory that they once allocated.
    """

    load: Load
    photos_per_second: Spread
    latency: Latency
    resident_bytes: int


def loads_for(
    engine: Engine, batch_sizes: Sequence[int] = BATCH_SIZES, in_flight: Sequence[int] | None = None
) -> list[Load]:
    """Every batch size with every number in flight, those with the fewest images in flight first.

    Args:
        engine: the engine to load.
        batch_sizes: images per batch.
        in_flight: batches at once; None for one, and for the engine's own number.

    Raises:
        UsageError: `in_flight` exceeds what the engine runs at once.
    """
    in_flight = in_flight or (1, engine.in_flight)
    if max(in_flight) > engine.in_flight:
        raise UsageError(
            f"--in-flight {max(in_flight)}: the engine runs {engine.in_flight} batches at once here; use at most "
            "that many."
        )
    loads = {Load(size, count) for size in batch_sizes for count in in_flight}
    return sorted(loads, key=lambda load: (load.batch_size * load.in_flight, load.in_flight))


def measure_loads(
    engine: Engine,
    loads: Sequence[Load],
    repeats: int = REPEATS,
    seconds: float = SECONDS,
    quiet: bool = False,
    clock: Clock = time.perf_counter,
) -> list[LoadResult]:
    """Measure an engine under several loads, interleaved, so that other work on the machine slows all alike.

    Args:
        engine: the engine.
        loads: none with more in flight than the engine runs at once.
        repeats: measurements of each load.
        seconds: how long each is measured after its warm-up, for at least `MIN_BATCHES` batches.
        quiet: show no progress.
        clock: returns seconds, from any start.
    """
    images = {load.batch_size: random_images(load.batch_size, engine.manifest.image_size) for load in loads}
    measured: list[list[_Repeat]] = [[] for _ in loads]
    with progress("measuring", repeats * len(loads), "repeats", quiet) as bar:
        for _ in range(repeats):
            for load, done in zip(loads, measured, strict=True):
                done.append(_measure(engine, load, images[load.batch_size], seconds, clock))
                bar.advance(note=f"batch {load.batch_size}, {load.in_flight} in flight")
    results = []
    for load, done in zip(loads, measured, strict=True):
        rates, seconds_of_batches, resident_bytes = zip(*done, strict=True)
        taken = latency(list(itertools.chain(*seconds_of_batches)))
        results.append(LoadResult(load, spread(rates), taken, resident_bytes[0]))
    return results


def random_images(count: int, size: int) -> Images:
    """Noise, uint8 [count, size, size, 3], the same in every run."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def _measure(
    engine: Engine, load: Load, images: Images, seconds: float, clock: Clock
) -> tuple[float, list[float], int]:
    warm_up = load.in_flight + 1  # until `in_flight` batches are in flight
    pulled: list[float] = []
    done: list[float] = []
    measured = resident_bytes = 0
    process = psutil.Process()

    def batches() -> Iterator[Images]:
        nonlocal measured
        while len(done) < warm_up + MIN_BATCHES or done[-1] - done[warm_up - 1] < seconds:
            pulled.append(clock())
            yield images
        measured = len(done)  # later batches ran with fewer in flight

    default, engine.in_flight = engine.in_flight, load.in_flight
    try:
        with contextlib.closing(engine.run(batches())) as results:
            for _ in results:
                done.append(clock())
                resident_bytes = max(resident_bytes, process.memory_info().rss)
    finally:
        engine.in_flight = default
    rate = load.batch_size * (measured - warm_up) / (done[measured - 1] - done[warm_up - 1])
    return rate, latencies(pulled, done, load.in_flight)[warm_up:measured], resident_bytes


def latencies(pulled: Sequence[float], done: Sequence[float], in_flight: int) -> list[float]:
    """Seconds from when an engine starts a batch to its scores.

    An engine pulls the next batch while it still waits for the oldest; it starts on it once that one is done.

    Args:
        pulled: when the engine took each batch.
        done: when it gave each batch's scores, in the same order.
        in_flight: how many it runs at once.
    """
    free = [float("-inf")] * in_flight + list(done)  # when the slot of each batch becomes free
    return [end - max(taken, start) for taken, start, end in zip(pulled, free, done, strict=False)]
