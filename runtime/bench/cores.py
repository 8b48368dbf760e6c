"""The stages of the pipeline on fewer cores than the machine has: one process for each number of cores, interleaved."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import FailureError, MlzslError, UsageError
from mlzsl.cli.progress import progress
from mlzsl.engines.engine import available_cpus
from mlzsl.runtime.bench.stages import StageBench, StageRates, Stages, runs_on_cpu, summarize
from mlzsl.runtime.tagging.tagger import Tagger

SECONDS_TO_EXIT = 10.0


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
            connection.send((len(bench.paths), tagger.execution.provider))
            with contextlib.suppress(EOFError):  # the parent is done
                while connection.recv():
                    connection.send(bench.measure())
    except MlzslError as error:
        connection.send(error)
