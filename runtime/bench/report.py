"""What a benchmark found, as tables to read and as JSON."""

import platform
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlzsl.engines.engine import available_cpus
from mlzsl.runtime.bench.benchmark import ModelBench
from mlzsl.runtime.bench.plot import accuracy_of
from mlzsl.runtime.bench.stages import DECODE, ENGINE, PIPELINE, Stages
from mlzsl.runtime.bench.statistics import Spread

MIB = 2**20


def machine() -> dict[str, Any]:
    """Where the figures were taken."""
    return {"system": platform.system(), "machine": platform.machine(), "cores": available_cpus()}


def as_json(bench: ModelBench) -> dict[str, Any]:
    """Every number: rates in photos a second, latencies in seconds, memory in bytes, mAP in points."""
    accuracy = accuracy_of(bench)
    return {
        "model": str(bench.model),
        "network_sha256": bench.manifest.network_sha256,
        "backbone": bench.manifest.backbone,
        "image_size": bench.manifest.image_size,
        "labels": len(bench.manifest.labels),
        "running": asdict(bench.execution),
        "loads": [asdict(measured) for measured in bench.loads],
        "stages": None if bench.stages is None else asdict(bench.stages),
        "memory": asdict(bench.memory),
        "accuracy": None if accuracy is None else asdict(accuracy),
    }


def print_bench(bench: ModelBench, console: Console) -> None:
    """Print what the engine did under each load, and what the pipeline did."""
    console.print(Text(f"{bench.model} on {bench.execution}"), soft_wrap=True)
    console.print(
        f"{bench.manifest.backbone} at {bench.manifest.image_size} px, {len(bench.manifest.labels):,} labels, "
        f"{available_cpus()} cores"
    )
    console.print(_loads(bench))
    opened, before = bench.memory.opened, bench.memory.before
    grown = "" if opened is None or before is None else f"opening took {mebibytes(opened - before)} MiB of memory; "
    console.print(f"{grown}the process held {mebibytes(bench.memory.peak)} MiB at its peak")
    if bench.stages is not None:
        console.print(_stages(bench.stages))
        console.print(verdict(bench.stages), soft_wrap=True)


def verdict(stages: Stages) -> str:
    """Which stage limits the pipeline, and how near it comes."""
    words = f"{stages.limiting} limits: the pipeline reaches {_share(stages.of_slower)} of its rate"
    if stages.of_shared is None:
        return words
    return f"{words}, and {_share(stages.of_shared)} of what both reach on the cores that they share"


def _loads(bench: ModelBench) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("batch", "in flight", "photos/s", "spread", "p50", "p90", "p99 ms", "batches", "MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for measured in sorted(bench.loads, key=lambda measured: (measured.load.in_flight, measured.load.batch_size)):
        taken = measured.latency
        table.add_row(
            f"{measured.load.batch_size:,}",
            f"{measured.load.in_flight}",
            rate(measured.photos_per_second.median),
            rate_range(measured.photos_per_second),
            *(f"{1000 * seconds:.1f}" for seconds in (taken.p50, taken.p90, taken.p99)),
            f"{taken.batches:,}",
            mebibytes(measured.resident_bytes),
        )
    return table


def _stages(stages: Stages) -> Table:
    table = Table(
        title=f"From files to tags, {stages.photos:,} photos a round, batches of {stages.batch_size}",
        title_justify="left",
        show_edge=False,
    )
    for heading in ("stage", "photos/s", "spread"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for name, measured in ((DECODE, stages.decode), (ENGINE, stages.engine), (PIPELINE, stages.pipeline)):
        limits = " (limits)" if name == stages.limiting else ""
        table.add_row(name + limits, rate(measured.median), rate_range(measured))
    return table


def rate(value: float) -> str:
    """Photos a second in three figures or more: "8.25", "94.1", "1,203"."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def rate_range(measured: Spread) -> str:
    """The least and the largest: "88.1–94.3"."""
    return f"{rate(measured.low)}–{rate(measured.high)}"


def mebibytes(size: int | None) -> str:
    """A number of bytes in MiB, nothing where it is not known."""
    return "" if size is None else f"{size / MIB:,.0f}"


def _share(measured: Spread) -> str:
    return f"{measured.median:.0%} ({measured.low:.0%}–{measured.high:.0%})"
