"""Reports of `mlzsl verify`: tables and JSON."""

from collections.abc import Iterator
from typing import Any

import msgspec
from rich.table import Table

from mlzsl.cli.text import plural
from mlzsl.engines.artifact.certificate import Measurement
from mlzsl.runtime.report import UNSEEN_NOTE, label_text, table
from mlzsl.runtime.verify.verify import Verification

MAX_LABELS = 5


def as_json(verification: Verification) -> dict[str, Any]:
    """Every number."""
    manifest, agreement = verification.manifest, verification.agreement
    return {
        "model": verification.model,
        "network_sha256": manifest.network_sha256,
        "execution": verification.execution,
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
                    msgspec.structs.asdict(found) | {"passed": found.passed} for found in check.measurements
                ],
            }
            for check in verification.checks
        ],
        "labels": [
            {
                "label": manifest.labels[index].name,
                "seen": manifest.labels[index].seen,
                "reference_positive": int(agreement.reference_positive[index]),
                "lost": int(agreement.lost[index]),
                "gained": int(agreement.gained[index]),
                "largest_difference": float(agreement.largest_of_label[index]),
            }
            for index in agreement.worst_labels(len(manifest.labels))
        ],
        "unreadable": verification.unreadable,
    }


def report(verification: Verification) -> Iterator[Table | str]:
    """Measurements with their tolerances, and the labels with the largest differences."""
    yield f"{verification.model} on {verification.execution}"
    yield f"compared with {verification.reference}"
    yield table(("check", "found", "tolerance", ""), _measurements(verification))
    labels, agreement = verification.manifest.labels, verification.agreement
    rows = (
        (
            label_text(labels[index]),
            *(f"{counts[index]:,}" for counts in (agreement.reference_positive, agreement.lost, agreement.gained)),
            _number(float(agreement.largest_of_label[index]), ""),
        )
        for index in agreement.worst_labels(MAX_LABELS)
    )
    headings = ("label", "reference", "lost", "gained", "largest difference")
    note = UNSEEN_NOTE if not all(label.seen for label in labels) else None
    yield table(headings, rows, "Labels with most flipped tags", note)
    if verification.unreadable:
        yield f"skipped {plural(verification.unreadable, 'photo')} that could not be read"


def failure(verification: Verification) -> str:
    """What is wrong with an engine that did not pass, as a clause without a full stop."""
    check, worst = verification.exceeded[0]
    more = len(verification.exceeded) - 1
    return f"{verification.model}: exceeds its tolerances: {check.name}: {describe(worst)}" + (
        f", and {more} more, on {verification.execution}" if more else f", on {verification.execution}"
    )


def describe(found: Measurement) -> str:
    """A measurement and its tolerance: "largest difference is 1.0e-02 where at most 1.0e-05 is allowed"."""
    return f"{found.name} is {_number(found.value, found.unit)} where {_tolerance(found)} is allowed"


def _measurements(verification: Verification) -> Iterator[tuple[str, ...]]:
    for check in verification.checks:
        yield (f"[bold]{check.name}[/], {check.photos:,} images",)
        for found in check.measurements:
            verdict = ("[green]ok[/]" if found.passed else "[red]exceeded[/]") if found.has_tolerance else ""
            yield f"  {found.name}", _number(found.value, found.unit), _tolerance(found), verdict


def _number(value: float, unit: str) -> str:
    if unit:
        return f"{value:.2f} {unit}"
    return "0" if value == 0 else f"{value:.1e}"


def _tolerance(found: Measurement) -> str:
    if found.at_most is not None:
        return f"at most {_number(found.at_most, found.unit)}"
    return "" if found.at_least is None else f"at least {_number(found.at_least, found.unit)}"
