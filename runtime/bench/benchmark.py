"""Benchmarks one model file on this machine: its engine under load, and the pipeline if there are photos."""

import itertools
import platform
import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.table import Table

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.engine import ExecutionInfo, available_cpus
from mlzsl.imaging.finding import find_images
from mlzsl.runtime.bench.load import BATCH_SIZES, REPEATS, SECONDS, LoadResult, Spread, loads_for, measure_loads
from mlzsl.runtime.bench.stages import DECODE, ENGINE, PIPELINE, Stages, measure_stages
from mlzsl.runtime.report import rate, table
from mlzsl.runtime.tagging.pipeline import DEFAULT_BATCH_SIZE
from mlzsl.runtime.tagging.tagger import Tagger
from mlzsl.runtime.verify.verify import RANKING

DEFAULT_COUNT = 256
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes
MEASURES = ("seen mAP", "unseen mAP")  # by the names in certificates


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        batch_sizes: images per batch, each measured.
        in_flight: batches at once, each measured; None for one, and for the engine's own number.
        repeats: measurements of each load; medians are reported.
        seconds: how long each is measured after its warm-up.
        batch_size: photos per batch in the pipeline.
    """

    batch_sizes: tuple[int, ...] = BATCH_SIZES
    in_flight: tuple[int, ...] | None = None
    repeats: int = REPEATS
    seconds: float = SECONDS
    batch_size: int = DEFAULT_BATCH_SIZE


@dataclass(frozen=True)
class Memory:
    """Resident memory of the process in bytes.

    Attributes:
        before, opened: before and after the model was opened.
        peak: the maximum since the process started, models measured before this one included.
    """

    before: int
    opened: int
    peak: int


@dataclass(frozen=True)
class ModelBench:
    """How one model file performed.

    Attributes:
        model: the file.
        manifest: its manifest.
        execution: backend, provider, device and precision.
        loads: the engine under each load.
        stages: the pipeline on photos; None without photos.
        memory: of the process.
    """

    model: Path
    manifest: Manifest
    execution: ExecutionInfo
    loads: tuple[LoadResult, ...]
    stages: Stages | None
    memory: Memory

    @property
    def fastest(self) -> LoadResult:
        """The load with the highest median rate."""
        return max(self.loads, key=lambda result: result.photos_per_second.median)


def bench_model(
    model: Path, settings: Settings, photos: Sequence[str] = (), quiet: bool = False, **engine: Any
) -> ModelBench:
    """Measure a model file.

    Args:
        model: the file.
        settings: how to measure.
        photos: image files to tag, from `photos_to_bench`; none measures the engine alone.
        quiet: show no progress.
        engine: device, backend, precision and threads, as `open_engine` takes them.

    Raises:
        UsageError: the file cannot be opened as requested, or `in_flight` exceeds what the engine runs at once.
        FailureError: not one photo can be read.
    """
    process = psutil.Process()
    before = process.memory_info().rss
    with Tagger.open(model, batch_size=settings.batch_size, **engine) as tagger:
        opened = process.memory_info().rss
        loads = loads_for(tagger.engine, settings.batch_sizes, settings.in_flight)
        results = measure_loads(tagger.engine, loads, settings.repeats, settings.seconds, quiet)
        stages = measure_stages(tagger, photos, settings.repeats, quiet) if photos else None
        peak = MAXRSS_UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # psutil has no peak on Linux
        memory = Memory(before, opened, peak)
        return ModelBench(model, tagger.manifest, tagger.execution, tuple(results), stages, memory)


def check_models(models: Sequence[Path]) -> None:
    """Refuse a missing model file before any is measured.

    Raises:
        UsageError: a file is missing.
    """
    for model in models:
        if not model.exists():
            raise UsageError(f"{model}: no such model file; export one with mlzsl-export.")


def photos_to_bench(names: Sequence[str], count: int = DEFAULT_COUNT) -> list[str]:
    """The first `count` photos of files, folders and patterns, repeated in order if there are fewer.

    Raises:
        UsageError: as `find_images`.
    """
    first = list(itertools.islice(find_images(names), count))
    return list(itertools.islice(itertools.cycle(first), count))


@dataclass(frozen=True)
class Accuracy:
    """An engine's mAP on labelled photos, as its certificate states it.

    Attributes:
        points: by measure, such as "unseen mAP"; hundredths of mAP.
        photos: how many it was measured on.
    """

    points: dict[str, float]
    photos: int


def accuracy_of(bench: ModelBench) -> Accuracy | None:
    """The accuracy in the certificate of the engine that ran; None if it has none on labelled photos."""
    execution = bench.execution
    certificate = bench.manifest.certificate_for(execution.backend, execution.provider, execution.precision)
    for check in certificate.checks if certificate else ():
        if check.name == RANKING:
            found = {measure: value for measure in MEASURES if (value := check.value(measure)) is not None}
            return Accuracy(found, check.photos) if found else None
    return None


# ---- report ---------------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Where the figures were measured."""
    return {"system": platform.system(), "machine": platform.machine(), "cores": available_cpus()}


def as_json(bench: ModelBench) -> dict[str, Any]:
    """Every number: rates in photos per second, latencies in seconds, memory in bytes, mAP in points."""
    return {
        "model": bench.model,
        "network_sha256": bench.manifest.network_sha256,
        "backbone": bench.manifest.backbone,
        "image_size": bench.manifest.image_size,
        "labels": len(bench.manifest.labels),
        "execution": asdict(bench.execution),
        "loads": bench.loads,
        "stages": bench.stages,
        "memory": bench.memory,
        "accuracy": accuracy_of(bench),
    }


def report_bench(bench: ModelBench) -> Iterator[Table | str]:
    """How the engine performed under each load, and the pipeline if it was measured."""
    yield f"{bench.model} on {bench.execution}"
    network = f"{bench.manifest.backbone} at {bench.manifest.image_size} px, {len(bench.manifest.labels):,} labels"
    yield f"{network}, {available_cpus()} cores"
    loads = sorted(bench.loads, key=lambda result: (result.load.in_flight, result.load.batch_size))
    headings = ("batch", "in flight", "photos/s", "range", "p50", "p90", "p99 ms", "batches", "MiB")
    yield table(headings, map(_load, loads), left=())
    opening, peak = bench.memory.opened - bench.memory.before, bench.memory.peak
    yield f"memory: {mebibytes(opening)} MiB to open the model, {mebibytes(peak)} MiB at the peak"
    if (stages := bench.stages) is not None:
        measured = ((DECODE, stages.decode), (ENGINE, stages.engine), (PIPELINE, stages.pipeline))
        rows = (
            (name + (" (limits)" if name == stages.limiting else ""), rate(found.median), rate_range(found))
            for name, found in measured
        )
        title = f"From files to tags, {stages.photos:,} photos a repeat, batches of {stages.batch_size}"
        yield table(("stage", "photos/s", "range"), rows, title)
        yield verdict(stages)


def verdict(stages: Stages) -> str:
    """Which stage limits the pipeline, and how close the pipeline comes to it."""
    limit = f"{stages.limiting} limits: the pipeline reaches {_percent(stages.of_slower)} of its rate"
    if stages.of_shared is None:
        return limit
    return f"{limit}, and {_percent(stages.of_shared)} of what both reach on the cores that they share"


def _load(result: LoadResult) -> tuple[str, ...]:
    return (
        f"{result.load.batch_size:,}",
        f"{result.load.in_flight}",
        rate(result.photos_per_second.median),
        rate_range(result.photos_per_second),
        *(f"{1000 * seconds:.1f}" for seconds in (result.latency.p50, result.latency.p90, result.latency.p99)),
        f"{result.latency.batches:,}",
        mebibytes(result.resident_bytes),
    )


def rate_range(measured: Spread) -> str:
    """Minimum and maximum: "88.1–94.3"."""
    return f"{rate(measured.low)}–{rate(measured.high)}"


def mebibytes(size: int) -> str:
    """A number of bytes in MiB."""
    return f"{size / 2**20:,.0f}"


def _percent(measured: Spread) -> str:
    return f"{measured.median:.0%} ({measured.low:.0%}–{measured.high:.0%})"
