"""What every table and figure says in the same words: title, footnotes, numbers, CSV."""

import csv
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlzsl.cli.outputs import written_atomically
from mlzsl.train.experiments.data import Subject
from mlzsl.train.experiments.experiment import Experiment, Level, Outcome

LEVEL_COLUMNS = ("mean", "deviation", "low", "high")


def title(experiment: Experiment, subject: Subject, outcomes: Iterable[Outcome]) -> str:
    """One line: photos, backbone and size, embeddings, folds, settings, seeds, seconds."""
    job, outcomes = subject.job, list(outcomes)
    seconds = f"{sum(outcome.seconds for outcome in outcomes):,.0f} s of training"
    if not all(outcome.whole for outcome in outcomes):
        seconds = f"more than {seconds} (some were broken off)"
    seeds, loop = experiment.each_seed, job.training
    epochs = f"{loop.epochs} epoch{'s' * (loop.epochs > 1)}"
    return ", ".join(
        [
            f"{len(subject.tested):,} tested photos of {subject.tested.name}",
            f"each tested once in {experiment.folds} folds"
            if experiment.folds
            else f"trained on {len(subject.divisions[0].training):,} others",
            f"{job.backbone} at {subject.backbone.preprocessing.size} px",
            f"embeddings {Path(job.embeddings).name}",
            f"{epochs} of batches of {loop.batch_size} at {loop.learning_rate:g}",
            f"seed{'s' * (len(seeds) > 1)} {', '.join(str(seed) for seed in seeds)}",
            seconds,
        ]
    )


def legend(experiment: Experiment) -> str:
    """How to read `cell`."""
    deviation = f"± the deviation over {experiment.seeds} seeds" if experiment.seeds > 1 else ""
    interval = f"[the 95 % interval over {experiment.resamples:,} resamplings of the tested photos]"
    parts = [part for part in (deviation, interval if experiment.resamples else "") if part]
    return f"Mean {' '.join(parts)}." if parts else ""


def cell(level: Level) -> str:
    """A level for people, such as "0.176 ± 0.004 [0.151, 0.203]", without what there is not."""
    deviation = "" if math.isnan(level.deviation) else f" ± {level.deviation:.3f}"
    interval = "" if math.isnan(level.low) else f" [{level.low:.3f}, {level.high:.3f}]"
    return f"{three_digits(level.mean)}{deviation}{interval}"


def three_digits(value: float) -> str:
    """A value for people; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def level_fields(level: Level) -> list[float | str]:
    """A level for programs: `LEVEL_COLUMNS`, then the measure of each seed; empty for what there is not."""
    return [number(value) for value in (level.mean, level.deviation, level.low, level.high, *level.each)]


def number(value: float) -> float | str:
    """A value to six digits after the point; "" for NaN, which programs read in too many ways."""
    return "" if math.isnan(value) else round(value, 6)


def level_json(level: Level) -> dict[str, Any]:
    """A level as JSON; None for what there is not."""
    values = [None if value == "" else value for value in level_fields(level)]
    return dict(zip(LEVEL_COLUMNS, values, strict=False)) | {"each": values[len(LEVEL_COLUMNS) :]}


def seed_columns(experiment: Experiment) -> list[str]:
    """The names of the columns after `LEVEL_COLUMNS`."""
    return [f"seed {seed}" for seed in experiment.each_seed]


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table whole or not at all.

    Raises:
        FailureError: the file system refuses.
    """
    with written_atomically(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def write_text(path: Path, text: str) -> None:
    """Write a text whole or not at all.

    Raises:
        FailureError: the file system refuses.
    """
    with written_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
