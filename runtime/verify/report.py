"""What a verification found, as a table to read and as JSON."""

from dataclasses import asdict
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlzsl.engines.artifact.certificate import Measurement
from mlzsl.runtime.verify.verify import Verification

LABELS_SHOWN = 5


def as_json(verification: Verification) -> dict[str, Any]:
    """Every number, as JSON takes it; NaN, which it lacks, becomes None."""
    return {
        "model": str(verification.model),
        "network_sha256": verification.manifest.network_sha256,
        "running": asdict(verification.execution),
        "reference": verification.reference,
        "reference_sha256": verification.reference_sha256,
        "passed": verification.passed,
        "checks": [
            {
                "name": check.name,
                "photos": check.photos,
                "data_sha256": check.data_sha256,
                "passed": check.passed,
                "measurements": [
                    msgspec.structs.asdict(found) | {"value": _or_none(found.value), "passed": found.passed}
                    for found in check.measurements
                ],
            }
            for check in verification.checks
        ],
        "labels": [
            _label(verification, place)
            for place in verification.agreement.worst_labels(len(verification.manifest.labels))
        ],
        "unreadable": verification.unreadable,
    }


def print_report(verification: Verification, console: Console) -> None:
    """Print what was measured, what is allowed, and the labels that fare worst."""
    for line in (
        f"{verification.model} on {verification.execution}",
        f"compared with {verification.reference}",
    ):
        console.print(Text(line), soft_wrap=True)
    console.print(_measurements(verification))
    console.print(_worst_labels(verification))
    if verification.unreadable:
        console.print(f"{verification.unreadable:,} photos could not be read and were left out.")


def describe(found: Measurement) -> str:
    """A measurement beyond its limit: "largest difference is 1.0e-02 where at most 1.0e-05 is allowed"."""
    return f"{found.name} is {_number(found.value, found.unit)} where {_limit(found)} is allowed"


def _measurements(verification: Verification) -> Table:
    table = Table(show_edge=False)
    table.add_column("check")
    table.add_column("found", justify="right")
    table.add_column("allowed", justify="right")
    table.add_column("")
    for check in verification.checks:
        table.add_section()
        table.add_row(f"[bold]{check.name}[/], {check.photos:,} pictures")
        for found in check.measurements:
            verdict = ("[green]ok[/]" if found.passed else "[red]beyond[/]") if found.limited else ""
            limit = _limit(found) if found.limited else ""
            table.add_row(f"  {found.name}", _number(found.value, found.unit), limit, verdict)
    return table


def _worst_labels(verification: Verification) -> Table:
    agreement = verification.agreement
    table = Table(title="Labels that differ most", title_justify="left", show_edge=False)
    for heading in ("label", "given", "lost", "gained", "largest difference"):
        table.add_column(heading, justify="left" if heading == "label" else "right")
    for place in agreement.worst_labels(LABELS_SHOWN):
        label = verification.manifest.labels[place]
        table.add_row(
            Text(label.name if label.seen else f"{label.name} *"),
            f"{agreement.reference_positive[place]:,}",
            f"{agreement.lost[place]:,}",
            f"{agreement.gained[place]:,}",
            _number(float(agreement.largest_of_label[place]), ""),
        )
    table.caption = "* never seen in training" if not all(x.seen for x in verification.manifest.labels) else None
    table.caption_justify = "left"
    return table


def _label(verification: Verification, place: int) -> dict[str, Any]:
    agreement, label = verification.agreement, verification.manifest.labels[place]
    return {
        "label": label.name,
        "seen": label.seen,
        "given": int(agreement.reference_positive[place]),
        "lost": int(agreement.lost[place]),
        "gained": int(agreement.gained[place]),
        "largest_difference": _or_none(float(agreement.largest_of_label[place])),
    }


def _number(value: float, unit: str) -> str:
    if unit:
        return f"{value:.2f} {unit}"
    return "0" if value == 0 else f"{value:.1e}"


def _limit(found: Measurement) -> str:
    if found.at_most is not None:
        return f"at most {_number(found.at_most, found.unit)}"
    return f"at least {_number(found.at_least or 0.0, found.unit)}"


def _or_none(value: float) -> float | None:
    return value if value - value == 0 else None
