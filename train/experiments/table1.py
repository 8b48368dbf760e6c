"""Table 1 of the paper on any data: all systems, beside chance and beside the paper's figures."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlzsl.metrics.summary import METRIC_NAMES, chance_metrics
from mlzsl.train.datasets.registry import parse_data
from mlzsl.train.experiments.data import open_subject
from mlzsl.train.experiments.experiment import Experiment, Level, Outcome, Setup, check_systems, run_all
from mlzsl.train.experiments.paper import MEASURES as PAPERS_MEASURES
from mlzsl.train.experiments.paper import SETTING, paper_levels
from mlzsl.train.experiments.report import (
    LEVEL_COLUMNS,
    cell,
    legend,
    level_fields,
    level_json,
    number,
    seed_columns,
    three_digits,
    title,
    write_csv,
    write_text,
)
from mlzsl.train.models.registry import MODELS
from mlzsl.train.training.job import SCENES

MARKDOWN, CSV = "table1.md", "table1.csv"
DATASETS = {"coco": "MS-COCO", "nuswide": "NUS-WIDE"}  # the paper's, by the format that --data names them with


@dataclass(frozen=True)
class Table1:
    """The table.

    Attributes:
        experiment: what it is of.
        title: photos, backbone, embeddings, settings, seeds, seconds.
        rows: by system, in the order asked for.
        chance: what random scores are expected to reach, by measure (mAP and miAP).
        dataset: of the paper, whose figures stand beside ours.
        same_data: whether ours are of that dataset too.
    """

    experiment: Experiment
    title: str
    rows: dict[str, Outcome]
    chance: dict[str, float]
    dataset: str
    same_data: bool


def make_table1(experiment: Experiment, systems: tuple[str, ...] = tuple(MODELS), quiet: bool = False) -> Table1:
    """Train and test every system with every seed, as far as it is not done yet.

    Args:
        experiment: data, settings, seeds, folds.
        systems: names of `MODELS`, the rows in their order.
        quiet: show no progress.

    Raises:
        UsageError: a name, file or folder is unfit.
        FailureError: a training diverged, or a file could not be written.
    """
    systems = check_systems(systems, MODELS, "--systems")
    subject = open_subject(experiment.job, systems, experiment.folds, quiet)
    graph = subject.graph(experiment.job.threshold)
    setups = [Setup(name, partial(experiment.job_of, name), graph) for name in systems]
    rows = run_all(experiment, subject, setups, quiet)
    chance = chance_metrics(subject.targets(graph), graph.seen)
    format_ = "" if experiment.job.data == SCENES else parse_data(experiment.job.data)[0]
    dataset = DATASETS.get(format_, "NUS-WIDE" if subject.labels.name == "nuswide81" else "MS-COCO")
    return Table1(experiment, title(experiment, subject, rows.values()), rows, chance, dataset, format_ in DATASETS)


def write_table1(table: Table1, folder: Path) -> tuple[Path, Path]:
    """Write table1.md and table1.csv into a folder, each whole or not at all.

    Raises:
        FailureError: the file system refuses.
    """
    write_text(folder / MARKDOWN, markdown(table))
    columns = ["system", "measure", *LEVEL_COLUMNS, *seed_columns(table.experiment), "paper", "paper's data"]
    write_csv(folder / CSV, columns, _csv_rows(table))
    return folder / MARKDOWN, folder / CSV


def markdown(table: Table1) -> str:
    """The table with its title and how to read it."""
    rows = [
        ["system", *PAPERS_MEASURES, *(f"paper: {name}" for name in PAPERS_MEASURES)],
        ["---"] * (1 + 2 * len(PAPERS_MEASURES)),
        ["chance", *(three_digits(table.chance[name]) for name in PAPERS_MEASURES), *[""] * len(PAPERS_MEASURES)],
    ]
    for system, outcome in table.rows.items():
        papers = paper_levels(table.dataset, system)
        theirs = [three_digits(papers[name]) if papers else "" for name in PAPERS_MEASURES]
        rows.append([system, *(cell(outcome.levels[name]) for name in PAPERS_MEASURES), *theirs])
    notes = " ".join(filter(None, (legend(table.experiment), papers_note(table))))
    return "\n".join([table.title, "", *(f"| {' | '.join(row)} |" for row in rows), "", notes, ""])


def papers_note(table: Table1) -> str:
    """What the paper's figures are of."""
    of = f"The paper's figures are of {table.dataset} with {SETTING}"
    return f"{of}." if table.same_data else f"{of}: other data, on which levels differ and orders may."


def to_json(table: Table1) -> dict[str, Any]:
    """The table as JSON."""
    return {
        "title": table.title,
        "chance": {name: None if number(level) == "" else level for name, level in table.chance.items()},
        "systems": {
            system: {name: level_json(level) for name, level in outcome.levels.items()}
            for system, outcome in table.rows.items()
        },
        "paper": {
            "data": table.dataset,
            "same data": table.same_data,
            "systems": {system: paper_levels(table.dataset, system) for system in table.rows},
        },
    }


def _csv_rows(table: Table1) -> list[list[Any]]:
    seeds = len(table.experiment.each_seed)
    rows: list[list[Any]] = [
        ["chance", name, number(level), *[""] * (len(LEVEL_COLUMNS) - 1 + seeds), "", ""]
        for name, level in table.chance.items()
    ]
    for system, outcome in table.rows.items():
        papers = paper_levels(table.dataset, system)
        for name in METRIC_NAMES:
            level: Level = outcome.levels[name]
            theirs = [papers[name], table.dataset] if name in papers else ["", ""]
            rows.append([system, name, *level_fields(level), *theirs])
    return rows
