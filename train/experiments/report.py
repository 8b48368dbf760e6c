"""What tables and figures have in common: title, legend, number formats, files."""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlzsl.cli.outputs import written_atomically
from mlzsl.train.experiments.data import ExperimentData
from mlzsl.train.experiments.experiment import Estimate, Experiment, Result

ESTIMATE_COLUMNS = ("mean", "deviation", "low", "high")


@dataclass(frozen=True)
class Report:
    """A table or figure.

    Attributes:
        text: for a terminal.
        content: as JSON.
        files: those written.
    """

    text: str
    content: dict[str, Any]
    files: tuple[Path, Path]


def title(experiment: Experiment, data: ExperimentData, results: Iterable[Result]) -> str:
    """One line: photos, backbone and image size, embeddings, training settings, seeds, seconds."""
    job, results = experiment.job, list(results)
    seconds = f"{sum(result.seconds for result in results):,.0f} s of training"
    if any(result.interrupted for result in results):
        seconds = f"more than {seconds} (some runs were interrupted)"
    training, seeds = job.training, [str(seed) for seed in experiment.seed_values]
    trained_on = f"trained on {len(data.folds[0].training):,} others"
    return ", ".join(
        [
            f"{len(data.test_photos):,} test photos of {data.test_photos.name}",
            f"each tested once in {experiment.folds} folds" if experiment.folds else trained_on,
            f"{job.backbone} at {data.backbone.preprocessing.size} px",
            f"embeddings {Path(job.embeddings).name}",
            f"{training.epochs} epoch{'s' * (training.epochs > 1)}, batch size {training.batch_size}, "
            f"learning rate {training.learning_rate:g}",
            f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}",
            seconds,
        ]
    )


def three_digits(value: float) -> str:
    """A number for people; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def six_digits(value: float) -> float | None:
    """A number for programs; None for NaN, which CSV writes as an empty field and JSON as null."""
    return None if math.isnan(value) else round(value, 6)


def estimate_fields(estimate: Estimate) -> list[float | None]:
    """An estimate for CSV: ESTIMATE_COLUMNS, then the measure of each seed."""
    return [six_digits(getattr(estimate, name)) for name in ESTIMATE_COLUMNS] + [*map(six_digits, estimate.per_seed)]


def estimates_json(result: Result) -> dict[str, Any]:
    """The estimates of a result by measure, for JSON."""
    return {
        name: {column: six_digits(getattr(estimate, column)) for column in ESTIMATE_COLUMNS}
        | {"per_seed": [six_digits(value) for value in estimate.per_seed]}
        for name, estimate in result.estimates.items()
    }


def write_csv(path: Path, experiment: Experiment, before: list[str], after: list[str], rows: list[list[Any]]) -> None:
    """Write estimates as CSV, with the columns `before` and `after` those of `estimate_fields`.

    Raises:
        FailureError: the file cannot be written.
    """
    columns = [*before, *ESTIMATE_COLUMNS, *(f"seed {seed}" for seed in experiment.seed_values), *after]
    with written_atomically(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])
