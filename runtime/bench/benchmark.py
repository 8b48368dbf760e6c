"""What a model file does on this machine: its engine under loads, and the pipeline on photos if there are any."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.engine import ExecutionInfo
from mlzsl.imaging.finding import find_images
from mlzsl.runtime.bench.load import BATCH_SIZES, REPEATS, SECONDS, Measured, loads_for, measure_loads
from mlzsl.runtime.bench.memory import peak_resident_bytes, resident_bytes
from mlzsl.runtime.bench.stages import Stages, measure_stages
from mlzsl.runtime.tagging.pipeline import DEFAULT_BATCH_SIZE
from mlzsl.runtime.tagging.tagger import Tagger

DEFAULT_COUNT = 256


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        batch_sizes: pictures a batch, each measured.
        in_flight: batches at once, each measured; None takes one, and as many as the engine runs by itself.
        repeats: turns; medians count.
        seconds: how long a turn of the engine is measured, after its warm-up.
        batch_size: photos a batch in the pipeline.
    """

    batch_sizes: tuple[int, ...] = BATCH_SIZES
    in_flight: tuple[int, ...] | None = None
    repeats: int = REPEATS
    seconds: float = SECONDS
    batch_size: int = DEFAULT_BATCH_SIZE


@dataclass(frozen=True)
class Memory:
    """Resident memory of the process in bytes; None where the system does not tell it.

    Attributes:
        before, opened: before and after the model was opened.
        peak: the most since the process began, models measured before this one included.
    """

    before: int | None
    opened: int | None
    peak: int


@dataclass(frozen=True)
class ModelBench:
    """What one model file did.

    Attributes:
        model: the file.
        manifest: its manifest.
        running: what ran it.
        loads: what the engine did under each load.
        stages: what the pipeline did on photos; None without photos.
        memory: of the process.
    """

    model: Path
    manifest: Manifest
    execution: ExecutionInfo
    loads: tuple[Measured, ...]
    stages: Stages | None
    memory: Memory

    @property
    def fastest(self) -> Measured:
        """The load with the highest median rate."""
        return max(self.loads, key=lambda measured: measured.photos_per_second.median)


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
        UsageError: the file is unfit, what was asked for is not there, or more are to be in flight than can be.
        FailureError: not one photo can be read.
    """
    before = resident_bytes()
    with Tagger.open(model, batch_size=settings.batch_size, **engine) as tagger:
        opened = resident_bytes()
        loads = loads_for(tagger.engine, settings.batch_sizes, settings.in_flight)
        measured = measure_loads(tagger.engine, loads, settings.repeats, settings.seconds, quiet)
        stages = measure_stages(tagger, photos, settings.repeats, quiet) if photos else None
        memory = Memory(before, opened, peak_resident_bytes())
        return ModelBench(model, tagger.manifest, tagger.execution, tuple(measured), stages, memory)


def photos_to_bench(names: Sequence[str], count: int = DEFAULT_COUNT) -> list[str]:
    """The first `count` photos that names stand for; fewer are gone through again until they are as many.

    Raises:
        UsageError: as `find_images`.
    """
    first = list(itertools.islice(find_images(names), count))
    return list(itertools.islice(itertools.cycle(first), count))
