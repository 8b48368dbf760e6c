"""The tagging pipeline stage by stage: decoding alone, the engine alone, and both together; also on fewer cores."""

import collections
import contextlib
import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import FailureError, MlzslError, UsageError
from mlzsl.cli.progress import progress
from mlzsl.cli.text import none_readable
from mlzsl.engines.engine import available_cpus
from mlzsl.runtime.bench.load import Clock, Spread, ratios, spread
from mlzsl.runtime.tagging.pipeline import ReadableBatches
from mlzsl.runtime.tagging.tagger import Tagger

SECONDS_TO_EXIT = 10.0
DECODE, ENGINE, PIPELINE = "decode alone", "engine alone", "whole pipeline"
GPU_PROVIDERS = ("CUDA",)  # in the names of providers

StageRates = tuple[float, float, float]  # photos per second: decoding alone, the engine alone, the pipeline


@dataclass(frozen=True)
class Stages:
    """What the stages and the pipeline reach.

    Attributes:
        photos: how many in each repeat.
        batch_size: photos per batch.
        decode, engine, pipeline: photos per second.
        limiting: DECODE or ENGINE, the slower one.
        of_slower: the pipeline's rate, of the slower stage's.
        of_shared: the pipeline's rate, of what both stages reach on the cores that they share; None if the engine
            does not run on the CPU.
    """

    photos: int
    batch_size: int
    decode: Spread
    engine: Spread
    pipeline: Spread
    limiting: str
    of_slower: Spread
    of_shared: Spread | None


def shared_rate(decode: float, engine: float) -> float:
    """What two stages reach together on cores that each alone keeps busy: their times per photo add up."""
    return 1 / (1 / decode + 1 / engine)


def runs_on_cpu(provider: str) -> bool:
    """Whether an engine needs the cores that decode photos, by the name of its provider."""
    return not any(name in provider for name in GPU_PROVIDERS)


def summarize(repeats: Sequence[StageRates], photos: int, batch_size: int, on_cpu: bool) -> Stages:
    """Name the limiting stage and compare the pipeline with the stages, within each repeat."""
    decode, engine, pipeline = zip(*repeats, strict=True)
    medians = spread(decode), spread(engine)
    return Stages(
        photos,
        batch_size,
        *medians,
        spread(pipeline),
        DECODE if medians[0].median < medians[1].median else ENGINE,
        ratios(pipeline, [min(pair) for pair in zip(decode, engine, strict=True)]),
        ratios(pipeline, list(map(shared_rate, decode, engine))) if on_cpu else None,
    )


class StageBench:
    """The stages of a tagger on some photos, ready to be measured; holds the decoded images, S × S × 3 bytes each."""

    def __init__(self, tagger: Tagger, paths: Sequence[str]) -> None:
        """Decode the photos, which also reads the files into the page cache, and warm up the engine.

        Raises:
            FailureError: not one photo can be read.
        """
        self._tagger = tagger
        decoder = self._decoder(paths)
        self._batches = list(decoder.images())
        self.paths = decoder.readable(paths)
        if not self.paths:
            raise FailureError(f"{none_readable(len(paths), decoder.first_error)}; nothing was measured.")
        _consume(tagger.engine.run(iter(self._batches)))

    def measure(self, clock: Clock = time.perf_counter) -> StageRates:
        """Run decoding, the engine and the pipeline once each, one after the other."""
        times = [clock()]
        for stage in (
            lambda: self._decoder(self.paths).images(),
            lambda: self._tagger.engine.run(iter(self._batches)),
            lambda: self._tagger.tag(self.paths),
        ):
            _consume(stage())
            times.append(clock())
        decode, engine, pipeline = (len(self.paths) / (end - start) for start, end in itertools.pairwise(times))
        return decode, engine, pipeline

    def _decoder(self, paths: Sequence[str]) -> ReadableBatches:
        return ReadableBatches(paths, self._tagger.manifest, self._tagger.batch_size, self._tagger.threads)


def _consume(results: Iterable[object]) -> None:
    collections.deque(results, maxlen=0)


def measure_stages(
    tagger: Tagger, paths: Sequence[str], repeats: int, quiet: bool = False, clock: Clock = time.perf_counter
) -> Stages:
    """Measure the stages of a tagger, interleaved.

    Args:
        tagger: the opened model with its batch size and threads.
        paths: image files; unreadable ones are skipped, the others are held in memory, decoded.
        repeats: measurements of each stage; medians are reported.
        quiet: show no progress.
        clock: returns seconds, from any start.

    Raises:
        FailureError: not one photo can be read.
    """
    bench = StageBench(tagger, paths)
    measured = []
    with progress("tagging", repeats, "repeats", quiet) as bar:
        for _ in range(repeats):
            measured.append(bench.measure(clock))
            bar.advance()
    return summarize(measured, len(bench.paths), tagger.batch_size, runs_on_cpu(tagger.execution.provider))


# ---- fewer cores ----------------------------------------------------------------------------------------------------


def cores_to_measure(available: int) -> tuple[int, ...]:
    """One core, half of them, and all."""
    return tuple(sorted({1, max(1, available // 2), available}))


def measure_on_cores(
    model: Path,
    paths: Sequence[str],
    repeats: int,
    batch_size: int,
    quiet: bool = False,
    counts: Sequence[int] | None = None,
    **engine: Any,
) -> dict[int, Stages]:
    """Measure decoding, engine and pipeline on several numbers of cores, interleaved.

    A process limited to some cores performs as on a machine with that many, except for memory bandwidth, which it has
    to itself.

    Args:
        model: the model file.
        paths: image files; unreadable ones are skipped.
        repeats: measurements of each stage.
        batch_size: photos per batch.
        quiet: show no progress.
        counts: numbers of cores; None for `cores_to_measure`.
        engine: device, backend and precision, as `open_engine` takes them.

    Raises:
        UsageError: as `open_engine`, or the operating system cannot limit a process to some cores.
        FailureError: not one photo can be read.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("plan: this system cannot limit a process to some of its cores; plan on Linux.")
    counts = counts or cores_to_measure(available_cpus())
    measured: dict[int, list[StageRates]] = {count: [] for count in counts}
    with contextlib.ExitStack() as stack:
        workers = {count: stack.enter_context(_worker(count, model, paths, batch_size, engine)) for count in counts}
        opened = {count: _receive(connection) for count, connection in workers.items()}
        with progress("measuring", repeats * len(counts), "repeats", quiet) as bar:
            for _ in range(repeats):
                for count, connection in workers.items():
                    connection.send(True)
                    measured[count].append(_receive(connection))
                    bar.advance(note=f"{count} cores")
    return {
        count: summarize(measured[count], photos, batch_size, runs_on_cpu(provider))
        for count, (photos, provider) in opened.items()
    }


@contextlib.contextmanager
def _worker(
    cores: int, model: Path, paths: Sequence[str], batch_size: int, engine: dict[str, Any]
) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")  # a new process: libraries count the cores when they start
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, cores, model, list(paths), batch_size, engine), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(SECONDS_TO_EXIT)
        process.kill()


def _receive(connection: Connection) -> Any:
    try:
        answer = connection.recv()
    except EOFError as error:
        raise FailureError("a process that measured on some of the cores was killed; check free memory.") from error
    if isinstance(answer, MlzslError):
        raise answer
    return answer


def _serve(
    connection: Connection, cores: int, model: Path, paths: list[str], batch_size: int, engine: dict[str, Any]
) -> None:
    """The worker: open the model on some cores, send (photos, provider), then one measurement per request."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    try:
        with Tagger.open(model, batch_size=batch_size, **engine) as tagger:
            bench = StageBench(tagger, paths)
            with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is done, or another worker failed
                connection.send((len(bench.paths), tagger.execution.provider))
                while connection.recv():
                    connection.send(bench.measure())
    except MlzslError as error:
        with contextlib.suppress(BrokenPipeError):
            connection.send(error)
