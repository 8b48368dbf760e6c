"""Reports of `mlzsl thresholds`: tables and JSON."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table

from mlzsl.cli.text import plural
from mlzsl.runtime.report import UNSEEN_NOTE, label_text, share, table
from mlzsl.runtime.thresholds.learning import FEW_PHOTOS, UNSEEN, LabelThreshold, LearnedThresholds
from mlzsl.runtime.thresholds.prediction import COVERAGE

MAX_LABELS = 100
MARKS, NOT_REACHED = {None: "", UNSEEN: "unseen", FEW_PHOTOS: "few"}, "short"


@dataclass(frozen=True)
class MacroAverage:
    """Means over the labels that at least one photo has; NaN if there is none.

    Attributes:
        labels: how many.
        precision: over those of them that are predicted for some photo.
        recall, f1: over all of them.
    """

    labels: int
    precision: float
    recall: float
    f1: float


def macro_averages(learned: LearnedThresholds) -> dict[str, MacroAverage]:
    """The means on the photos, by how the thresholds were set."""
    groups = {
        "chosen on photos": [found.point for found in learned.labels if found.predicted is None],
        "the same labels, predicted": [point for _, point in learned.left_out],
        "unseen, predicted": [found.point for found in learned.labels if found.predicted == UNSEEN],
    }
    averages = {}
    for name, points in groups.items():
        present = [(point.precision, point.recall, point.f1) for point in points if not np.isnan(point.f1)]
        columns = (column[~np.isnan(column)] for column in np.array(present).reshape(-1, 3).T)
        means = [float(column.mean()) if len(column) else np.nan for column in columns]
        averages[name] = MacroAverage(len(present), *means)
    return averages


def as_json(learned: LearnedThresholds) -> dict[str, Any]:
    """Every number."""
    validation = learned.validation
    prediction = validation and {
        "method": str(validation.method),
        "overlap": validation.overlap,
        "interval": COVERAGE,
        "coverage": validation.coverage,
        "overlaps_of_methods": {str(method): value for method, value in validation.overlaps.items()},
    }
    return {
        "goal": str(learned.goal),
        "photos": learned.photos,
        "unreadable": learned.unreadable,
        "min_photos": learned.min_photos,
        "averages": macro_averages(learned),
        "prediction": prediction,
        "labels": [
            {
                "label": found.label.name,
                "seen": found.label.seen,
                "predicted": found.predicted,
                "low": found.low,
                "high": found.high,
                "positives": found.positives,
            }
            | asdict(found.point)
            for found in learned.labels
        ],
    }


def report(learned: LearnedThresholds) -> Iterator[Table | str]:
    """Every threshold, and how well thresholds are predicted."""
    headings = ("label", "threshold", f"{COVERAGE:.0%} interval", "positive", "true", "prec.", "rec.", "F1", "")
    title = f"Thresholds for {learned.goal}, on {plural(learned.photos, 'photo')}"
    yield table(headings, map(_row, learned.labels[:MAX_LABELS]), title)
    yield from _notes(learned)
    rows = (
        (name, f"{mean.labels:,}", *map(share, (mean.precision, mean.recall, mean.f1)))
        for name, mean in macro_averages(learned).items()
        if mean.labels
    )
    yield ""
    yield table(("thresholds", "labels", "precision", "recall", "F1"), rows, "Means over labels, on these photos")
    if (validation := learned.validation) is not None:
        methods = ((str(method), f"{value:.3f}") for method, value in validation.overlaps.items())
        yield ""
        yield table(("scale and weights", "overlap"), methods, "Prediction methods, each label left out in turn")
        yield (
            f"Used: {validation.method}. For labels left out of this choice as well, the overlap is "
            f"{validation.overlap:.2f}, and the {COVERAGE:.0%} interval holds the own threshold of "
            f"{validation.coverage:.0%}. Unseen labels are predicted less well: the network was trained with those "
            "left out here."
        )


def _row(found: LabelThreshold) -> tuple[Any, ...]:
    point = found.point
    return (
        label_text(found.label),
        f"{point.threshold:.4f}",
        "" if found.predicted is None else f"{found.low:.4f}–{found.high:.4f}",
        f"{point.predicted_positive:,}",
        f"{found.positives:,}",
        *map(share, (point.precision, point.recall, point.f1)),
        MARKS[found.predicted] if point.reached else NOT_REACHED,
    )


def _notes(learned: LearnedThresholds) -> list[str]:
    more = len(learned.labels) - MAX_LABELS
    few = sum(found.predicted == FEW_PHOTOS for found in learned.labels)
    short = sum(not found.point.reached for found in learned.labels)
    unseen = any(not found.label.seen for found in learned.labels)
    notes = {
        f"and {more:,} more labels; --json prints all.": more > 0,
        f"{UNSEEN_NOTE}: predicted, even if photos have the label": unseen,
        f"{MARKS[FEW_PHOTOS]}: {few} seen labels on fewer than {learned.min_photos} photos, predicted": few,
        f"{NOT_REACHED}: {short} labels that do not reach {learned.goal}, at their highest precision": short,
        f"{learned.unreadable:,} photos could not be read and were skipped": learned.unreadable,
    }
    return [note for note, applies in notes.items() if applies]
