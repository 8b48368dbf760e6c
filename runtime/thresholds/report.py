"""The thresholds of a model as a table to read and as JSON."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlzsl.runtime.thresholds.learning import FEW_PHOTOS, UNSEEN, LabelThreshold, LearnedThresholds
from mlzsl.runtime.thresholds.operating_point import OperatingPoint
from mlzsl.runtime.thresholds.prediction import COVERAGE, Assessment

LABELS_SHOWN = 100
MARKS, SHORT = {UNSEEN: "unseen", FEW_PHOTOS: "few"}, "short"


@dataclass(frozen=True)
class Levels:
    """Means over labels that photos have; NaN where there is none."""

    labels: int
    precision: float  # over the labels that some photo gets
    recall: float
    f1: float

    @classmethod
    def of(cls, cuts: list[OperatingPoint]) -> "Levels":
        """The levels of labels that at least one photo has."""
        cuts = [cut for cut in cuts if not math.isnan(cut.f1)]
        precisions = [cut.precision for cut in cuts if cut.given]
        return cls(
            len(cuts),
            float(np.mean(precisions)) if precisions else math.nan,
            float(np.mean([cut.recall for cut in cuts])) if cuts else math.nan,
            float(np.mean([cut.f1 for cut in cuts])) if cuts else math.nan,
        )


def levels(learned: LearnedThresholds) -> dict[str, Levels]:
    """What the thresholds reach on the photos, by how they came about."""
    parts = {
        "chosen on its own photos": [found.cut for found in learned.labels if found.predicted is None],
        "the same, predicted with each left out": [cut for _, cut in learned.left_out],
        "unseen, predicted": [found.cut for found in learned.labels if found.predicted == UNSEEN],
    }
    return {name: Levels.of(cuts) for name, cuts in parts.items()}


def as_json(learned: LearnedThresholds) -> dict[str, Any]:
    """Every number, as JSON takes it; NaN, which it lacks, becomes None."""
    return {
        "goal": str(learned.goal),
        "photos": learned.photos,
        "unreadable": learned.unreadable,
        "min_photos": learned.fewest_photos,
        "levels": {name: _numbers(vars(part)) for name, part in levels(learned).items()},
        "prediction": None if learned.assessment is None else _prediction(learned.assessment),
        "labels": [_label(found) for found in learned.labels],
    }


def print_thresholds(learned: LearnedThresholds, console: Console) -> None:
    """Print every threshold, and how far those that are predicted can be trusted."""
    console.print(_labels(learned))
    for line in _remarks(learned):
        console.print(Text(line), soft_wrap=True)
    console.print()
    console.print(_levels(learned))
    assessment = learned.assessment
    if assessment is not None:
        console.print()
        console.print(_methods(learned))
        console.print(
            f"Used: {assessment.method}. Labels left out of that choice as well: overlap {assessment.overlap:.2f}; "
            f"the {COVERAGE:.0%} interval holds the own threshold of {assessment.covered:.0%} of them. Labels that "
            "training never saw are predicted less well: the network was trained with those left out here.",
            soft_wrap=True,
        )


def _labels(learned: LearnedThresholds) -> Table:
    title = f"Thresholds for {learned.goal}, on {learned.photos:,} photos"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=0, collapse_padding=True)
    table.add_column("label", overflow="fold", min_width=14)
    for heading in ("from", f"{COVERAGE:.0%} interval", "given", "true", "prec.", "rec.", "F1", ""):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for found in learned.labels[:LABELS_SHOWN]:
        table.add_row(
            Text(found.label.name if found.label.seen else f"{found.label.name} *"),
            f"{found.cut.threshold:.4f}",
            "" if found.predicted is None else f"{found.low:.4f}–{found.high:.4f}",
            f"{found.cut.given:,}",
            f"{found.positives:,}",
            *map(_rate, (found.cut.precision, found.cut.recall, found.cut.f1)),
            _mark(found),
        )
    return table


def _mark(found: LabelThreshold) -> str:
    if found.predicted is not None:
        return MARKS[found.predicted]
    return "" if found.cut.reached else SHORT


def _remarks(learned: LearnedThresholds) -> list[str]:
    more = len(learned.labels) - LABELS_SHOWN
    remarks = [f"and {more:,} labels more; --json has every one."] if more > 0 else []
    few = sum(found.predicted is not None and found.label.seen for found in learned.labels)
    short = sum(not found.cut.reached for found in learned.labels)
    if any(not found.label.seen for found in learned.labels):
        remarks.append("* never seen in training: predicted, whatever the photos say of it.")
    if few:
        remarks.append(
            f"{MARKS[FEW_PHOTOS]}: {few} seen labels are on fewer than {learned.fewest_photos} photos and so predicted."
        )
    if short:
        remarks.append(f"{SHORT}: {short} labels never reach {learned.goal} and hold where they are most precise.")
    if learned.unreadable:
        remarks.append(f"{learned.unreadable:,} photos could not be read and were left out.")
    return remarks


def _levels(learned: LearnedThresholds) -> Table:
    table = Table(title="What they reach on these photos (means over labels)", title_justify="left", show_edge=False)
    for heading in ("thresholds", "labels", "precision", "recall", "F1"):
        table.add_column(heading, justify="left" if heading == "thresholds" else "right")
    for name, part in levels(learned).items():
        if part.labels:
            table.add_row(name, f"{part.labels:,}", *map(_rate, (part.precision, part.recall, part.f1)))
    return table


def _methods(learned: LearnedThresholds) -> Table:
    table = Table(title="Ways to predict, each label left out in turn", title_justify="left", show_edge=False)
    table.add_column("what is averaged, and how")
    table.add_column("overlap", justify="right")
    if learned.assessment is not None:
        for method, value in learned.assessment.overlaps.items():
            table.add_row(str(method), f"{value:.3f}", style="bold" if method == learned.assessment.method else None)
    return table


def _prediction(assessment: Assessment) -> dict[str, Any]:
    return {
        "method": str(assessment.method),
        "overlap": assessment.overlap,
        "interval": COVERAGE,
        "covered": assessment.covered,
        "overlaps_of_methods": {str(method): value for method, value in assessment.overlaps.items()},
    }


def _label(found: LabelThreshold) -> dict[str, Any]:
    return {
        "label": found.label.name,
        "seen": found.label.seen,
        "predicted": found.predicted,
        "low": found.low,
        "high": found.high,
        "positives": found.positives,
    } | _numbers(found.cut._asdict())


def _numbers(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields with None for NaN, which JSON lacks."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in fields.items()}


def _rate(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"
