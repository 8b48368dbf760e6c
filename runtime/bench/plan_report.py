"""A plan, as a table to read and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mlzsl.runtime.bench.labels import LabelCost
from mlzsl.runtime.bench.plan import Planned
from mlzsl.runtime.bench.report import rate


def plan_as_json(rows: Sequence[Planned], cost: LabelCost | None) -> dict[str, Any]:
    """Every number: rates in photos a second, times in seconds for a photo."""
    return {
        "cores": [asdict(row) | {"off": row.off} for row in rows],
        "labels": None if cost is None else asdict(cost),
    }


def print_plan(rows: Sequence[Planned], cost: LabelCost | None, console: Console) -> None:
    """Print a row for each number of cores, the measured rate beside the predicted one where there is one."""
    if cost is not None:
        console.print(
            f"with {cost.labels:,} labels the engine takes {1000 * cost.seconds:.2f} ms for a photo, from models with "
            + ", ".join(f"{count:,}" for count in cost.from_labels)
            + ("; that lies outside of what was measured" if cost.outside else ""),
            soft_wrap=True,
        )
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("cores", "decode", "engine", "pipeline", "measured", "off by", "limits", "predicted from"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            f"{row.cores:,}",
            rate(row.decode),
            rate(row.engine),
            rate(row.pipeline),
            "" if row.measured is None else rate(row.measured.median),
            "" if row.off is None else f"{row.off:+.0%}",
            row.limiting.split()[0],
            f"{', '.join(map(str, row.from_cores))} core{'s' if row.from_cores != (1,) else ''}",
        )
    console.print(table)
    console.print(
        "photos/s; a rate that was measured is predicted from fewer cores, to show how far off plans are",
        soft_wrap=True,
    )
