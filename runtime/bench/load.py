"""What an engine does under a load: batches of one size, so many in flight, of random pictures."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mlzsl.cli.errors import UsageError
from mlzsl.cli.progress import progress
from mlzsl.engines.artifact.modelfile import Images
from mlzsl.engines.engine import Engine
from mlzsl.runtime.bench.memory import resident_bytes
from mlzsl.runtime.bench.statistics import Latency, Spread, latency, spread

BATCH_SIZES = (1, 4, 16, 32)
REPEATS, SECONDS = 5, 1.0
FEWEST_BATCHES = 3  # of a repeat, however long they take
Clock = Callable[[], float]


@dataclass(frozen=True)
class Load:
    """What an engine is given: batches of `batch_size` pictures, `in_flight` of them at once."""

    batch_size: int
    in_flight: int


@dataclass(frozen=True)
class Measured:
    """What an engine did under one load.

    Attributes:
        load: the load.
        photos_per_second: of each repeat.
        latency: of all batches of all repeats: from where the engine starts on a batch to its scores.
        resident_bytes: the most memory that the process held in the first turn, when loads with no more pictures at
            once had run before: libraries keep what they once took. None where it is not known.
    """

    load: Load
    photos_per_second: Spread
    latency: Latency
    resident_bytes: int | None


def loads_for(
    engine: Engine, batch_sizes: Sequence[int] = BATCH_SIZES, in_flight: Sequence[int] | None = None
) -> list[Load]:
    """Every batch size with every number in flight, each once, those with the fewest pictures at once first.

    Args:
        engine: what will bear the loads.
        batch_sizes: pictures a batch.
        in_flight: batches at once; None takes one, and as many as the engine runs by itself.

    Raises:
        UsageError: more are asked for than the engine runs at once.
    """
    in_flight = in_flight or (1, engine.in_flight)
    if max(in_flight) > engine.in_flight:
        raise UsageError(
            f"--in-flight {max(in_flight)}: the engine runs {engine.in_flight} batches at once here; ask for as many "
            "or fewer."
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
) -> list[Measured]:
    """Measure an engine under several loads, in turns: other work on the machine falls on all of them alike.

    Args:
        engine: the engine.
        loads: none with more in flight than the engine runs at once.
        repeats: turns; the median of their rates counts.
        seconds: how long a turn is measured, after a warm-up; at least `FEWEST_BATCHES` batches.
        quiet: show no progress.
        clock: seconds, from any start.
    """
    pictures = {load.batch_size: random_pictures(load.batch_size, engine.manifest.image_size) for load in loads}
    turns: list[list[_Turn]] = [[] for _ in loads]
    with progress("measuring", repeats * len(loads), "turns", quiet) as bar:
        for _ in range(repeats):
            for load, taken in zip(loads, turns, strict=True):
                taken.append(_take_turn(engine, load, pictures[load.batch_size], seconds, clock))
                bar.advance(note=f"batch {load.batch_size}, {load.in_flight} in flight")
    return [_summary(load, taken) for load, taken in zip(loads, turns, strict=True)]


def random_pictures(count: int, size: int) -> Images:
    """Noise, uint8 [count, size, size, 3], the same in every run."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@dataclass(frozen=True)
class _Turn:
    """One repeat: photos a second, the latency of each measured batch in seconds, memory."""

    rate: float
    latencies: list[float]
    resident: int | None


def _take_turn(engine: Engine, load: Load, pictures: Images, seconds: float, clock: Clock) -> _Turn:
    warm_up = load.in_flight + 1  # until there are as many in flight as there will be
    pulled: list[float] = []
    done: list[float] = []
    measured: list[float] = []
    memory: list[int] = []

    def batches() -> Iterator[Images]:
        while len(done) < warm_up + FEWEST_BATCHES or done[-1] - done[warm_up - 1] < seconds:
            pulled.append(clock())
            yield pictures
        measured.extend(done)  # what is done from here on ran with fewer beside it

    with _in_flight(engine, load.in_flight), contextlib.closing(engine.run(batches())) as results:
        for _ in results:
            done.append(clock())
            if (resident := resident_bytes()) is not None:
                memory.append(resident)
    rate = load.batch_size * (len(measured) - warm_up) / (measured[-1] - measured[warm_up - 1])
    return _Turn(
        rate, latencies(pulled, done, load.in_flight)[warm_up : len(measured)], max(memory) if memory else None
    )


def latencies(pulled: Sequence[float], done: Sequence[float], in_flight: int) -> list[float]:
    """From where an engine starts on a batch to its scores, in seconds.

    An engine pulls the next batch while it still waits for the oldest to finish; it starts on it once that is done.

    Args:
        pulled: when the engine took each batch.
        done: when it gave each batch's scores, in the same order.
        in_flight: how many it runs at once.
    """
    starts = [
        max(taken, done[place - in_flight]) if place >= in_flight else taken for place, taken in enumerate(pulled)
    ]
    return [end - start for start, end in zip(starts, done, strict=True)]


@contextlib.contextmanager
def _in_flight(engine: Engine, count: int) -> Iterator[None]:
    usual = engine.in_flight
    engine.in_flight = count
    try:
        yield
    finally:
        engine.in_flight = usual


def _summary(load: Load, turns: Sequence[_Turn]) -> Measured:
    return Measured(
        load,
        spread([turn.rate for turn in turns]),
        latency([seconds for turn in turns for seconds in turn.latencies]),
        turns[0].resident,
    )
