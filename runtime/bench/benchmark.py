"""Benchmarks one model file on this machine: its engine under load, and the pipeline if there are photos."""

import itertools
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.engine import ExecutionInfo
from mlzsl.imaging.finding import find_images
from mlzsl.runtime.bench.load import BATCH_SIZES, REPEATS, SECONDS, LoadResult, loads_for, measure_loads
from mlzsl.runtime.bench.stages import Stages, measure_stages
from mlzsl.runtime.tagging.pipeline import DEFAULT_BATCH_SIZE
from mlzsl.runtime.tagging.tagger import Tagger

DEFAULT_COUNT = 256
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


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


def photos_to_bench(names: Sequence[str], count: int = DEFAULT_COUNT) -> list[str]:
    """The first `count` photos of files, folders and patterns, repeated in order if there are fewer.

    Raises:
        UsageError: as `find_images`.
    """
    first = list(itertools.islice(find_images(names), count))
    return list(itertools.islice(itertools.cycle(first), count))
