"""The stages of the pipeline on fewer cores than there are: one process for each number of cores, in turns."""

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

SECONDS_TO_END = 10.0


def counts_to_measure(available: int) -> tuple[int, ...]:
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
    """Measure decoding, engine and pipeline on several numbers of cores, in turns.

    A process that is limited to some cores is what the same program is on a machine that has no more, apart from the
    memory's bandwidth, which it has to itself.

    Args:
        model: the model file.
        paths: image files; those that cannot be read are left out.
        repeats: rounds.
        batch_size: photos a batch.
        quiet: show no progress.
        counts: numbers of cores; None takes `counts_to_measure`.
        engine: device, backend and precision, as `open_engine` takes them.

    Raises:
        UsageError: as `open_engine`, or the system cannot limit a process to some cores.
        FailureError: not one photo can be read.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("--plan: this system cannot limit a process to some of its cores; plan on Linux.")
    counts = counts or counts_to_measure(available_cpus())
    rounds: dict[int, list[tuple[float, float, float]]] = {count: [] for count in counts}
    with contextlib.ExitStack() as stack:
        workers = {count: stack.enter_context(_worker(count, model, paths, batch_size, engine)) for count in counts}
        facts = {count: _receive(connection) for count, connection in workers.items()}
        with progress("measuring", repeats * len(counts), "rounds", quiet) as bar:
            for _ in range(repeats):
                for count, connection in workers.items():
                    connection.send(True)
                    rounds[count].append(_receive(connection))
                    bar.advance(note=f"{count} cores")
    found = {}
    for count, measured in rounds.items():
        photos, provider = facts[count]
        rates = StageRates(*(tuple(column) for column in zip(*measured, strict=True)))
        found[count] = summarize(rates, photos, batch_size, runs_on_cpu(provider))
    return found


@contextlib.contextmanager
def _worker(
    cores: int, model: Path, paths: Sequence[str], batch_size: int, engine: dict[str, Any]
) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")  # a fresh process: libraries count the cores as they start
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, cores, model, list(paths), batch_size, engine), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(SECONDS_TO_END)
        process.kill()


def _receive(connection: Connection) -> Any:
    try:
        answer = connection.recv()
    except EOFError as error:
        raise FailureError("a process that measured on some of the cores was killed; was memory short?") from error
    if isinstance(answer, MlzslError):
        raise answer
    return answer


def _serve(
    connection: Connection, cores: int, model: Path, paths: list[str], batch_size: int, engine: dict[str, Any]
) -> None:
    """What a worker does: open the model on some cores, say how many photos there are, then a round for each word."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    try:
        with Tagger.open(model, batch_size=batch_size, **engine) as tagger:
            bench = StageBench(tagger, paths)
            connection.send((len(bench.paths), tagger.execution.provider))
            with contextlib.suppress(EOFError):  # the parent is done
                while connection.recv():
                    connection.send(bench.round())
    except MlzslError as error:
        connection.send(error)
