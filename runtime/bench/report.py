"""Reports of `mlzsl bench run`: tables and JSON."""

import platform
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from mlzsl.engines.engine import available_cpus
from mlzsl.runtime.bench.benchmark import ModelBench
from mlzsl.runtime.bench.plot import accuracy_of
from mlzsl.runtime.bench.stages import DECODE, ENGINE, PIPELINE, Stages
from mlzsl.runtime.bench.statistics import Spread
from mlzsl.runtime.report import print_line, rate, table


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


def print_bench(bench: ModelBench, console: Console) -> None:
    """Print how the engine performed under each load, and the pipeline if it was measured."""
    print_line(console, f"{bench.model} on {bench.execution}")
    network = f"{bench.manifest.backbone} at {bench.manifest.image_size} px, {len(bench.manifest.labels):,} labels"
    print_line(console, f"{network}, {available_cpus()} cores")
    console.print(_loads(bench))
    opening, peak = bench.memory.opened - bench.memory.before, bench.memory.peak
    print_line(console, f"memory: {mebibytes(opening)} MiB to open the model, {mebibytes(peak)} MiB at the peak")
    if bench.stages is not None:
        console.print(_stages(bench.stages))
        print_line(console, verdict(bench.stages))


def verdict(stages: Stages) -> str:
    """Which stage limits the pipeline, and how close the pipeline comes to it."""
    limit = f"{stages.limiting} limits: the pipeline reaches {_percent(stages.of_slower)} of its rate"
    if stages.of_shared is None:
        return limit
    return f"{limit}, and {_percent(stages.of_shared)} of what both reach on the cores that they share"


def _loads(bench: ModelBench) -> Table:
    rows = (
        (
            f"{result.load.batch_size:,}",
            f"{result.load.in_flight}",
            rate(result.photos_per_second.median),
            rate_range(result.photos_per_second),
            *(f"{1000 * seconds:.1f}" for seconds in (result.latency.p50, result.latency.p90, result.latency.p99)),
            f"{result.latency.batches:,}",
            mebibytes(result.resident_bytes),
        )
        for result in sorted(bench.loads, key=lambda result: (result.load.in_flight, result.load.batch_size))
    )
    return table(("batch", "in flight", "photos/s", "range", "p50", "p90", "p99 ms", "batches", "MiB"), rows, left=())


def _stages(stages: Stages) -> Table:
    measured = ((DECODE, stages.decode), (ENGINE, stages.engine), (PIPELINE, stages.pipeline))
    rows = (
        (name + (" (limits)" if name == stages.limiting else ""), rate(found.median), rate_range(found))
        for name, found in measured
    )
    title = f"From files to tags, {stages.photos:,} photos a repeat, batches of {stages.batch_size}"
    return table(("stage", "photos/s", "range"), rows, title)


def rate_range(measured: Spread) -> str:
    """Minimum and maximum: "88.1–94.3"."""
    return f"{rate(measured.low)}–{rate(measured.high)}"


def mebibytes(size: int) -> str:
    """A number of bytes in MiB."""
    return f"{size / 2**20:,.0f}"


def _percent(measured: Spread) -> str:
    return f"{measured.median:.0%} ({measured.low:.0%}–{measured.high:.0%})"
