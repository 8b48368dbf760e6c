"""Figure 3 of the paper on any data: how the number of graph layers, and the WUP threshold, change what is reached."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import UsageError
from mlzsl.metrics.summary import METRIC_NAMES
from mlzsl.train.experiments.data import Subject, open_subject
from mlzsl.train.experiments.experiment import Experiment, Outcome, Setup, check_systems, run_all
from mlzsl.train.experiments.plots import plot_levels
from mlzsl.train.experiments.report import (
    LEVEL_COLUMNS,
    level_fields,
    level_json,
    seed_columns,
    title,
    write_csv,
)
from mlzsl.train.models.registry import MODELS, settings_of
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE
from mlzsl.train.training.job import Job

LAYERS = (1, 2, 3, 4, 5, 6)  # the paper's
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # the paper's
PLOTTED = ("seen miAP", "unseen miAP")  # the paper's


@dataclass(frozen=True)
class Figure:
    """What a system reaches as one setting changes.

    Attributes:
        experiment: what it is of.
        setting: "layers" or "threshold", the first column and the name of the files.
        axis: what the setting is called in the plot.
        title: system, photos, backbone, embeddings, settings, seeds, seconds.
        outcomes: by the setting's value, in the order asked for.
        edges: of each value, how many pairs of different classes the graph joins.
    """

    experiment: Experiment
    setting: str
    axis: str
    title: str
    outcomes: dict[float, Outcome]
    edges: dict[float, int]


def make_layers(
    experiment: Experiment, values: tuple[int, ...] = LAYERS, system: str = RGCNPosVAE.name, quiet: bool = False
) -> Figure:
    """Figure 3(a): train and test with each number of graph layers, as far as it is not done yet.

    Raises:
        UsageError: a name, file or folder is unfit, or the system has no layers to count.
        FailureError: a training diverged, or a file could not be written.
    """
    check_systems([system], [name for name in MODELS if "layers" in settings_of(name)], "--system")
    subject = open_subject(experiment.job, [system], experiment.folds, quiet)
    graph = subject.graph(experiment.job.threshold)
    setups = {
        value: Setup(f"{system}, {value} layers", _with(experiment, system, "layers", value), graph)
        for value in _different(values, "--values")
    }
    return _figure(experiment, subject, system, "layers", "RGCN layers", setups, quiet)


def make_threshold(
    experiment: Experiment, values: tuple[float, ...] = THRESHOLDS, system: str = RGCNPosVAE.name, quiet: bool = False
) -> Figure:
    """Figure 3(b): train and test with each threshold of the WUP similarity, as far as it is not done yet.

    Raises:
        UsageError: a name, file or folder is unfit, or a threshold is not in [0, 1].
        FailureError: a training diverged, or a file could not be written.
    """
    check_systems([system], MODELS, "--system")
    subject = open_subject(experiment.job, [system], experiment.folds, quiet)
    setups = {
        value: Setup(f"{system}, WUP > {value:g}", _with(experiment, system, "threshold", value), subject.graph(value))
        for value in _different(values, "--values")
    }
    return _figure(experiment, subject, system, "threshold", "threshold of the WUP similarity", setups, quiet)


def write_figure(figure: Figure, folder: Path) -> tuple[Path, Path]:
    """Write SETTING.csv and SETTING.png into a folder, each whole or not at all.

    Raises:
        FailureError: the file system refuses.
    """
    table, picture = folder / f"{figure.setting}.csv", folder / f"{figure.setting}.png"
    columns = [figure.setting, "edges", "measure", *LEVEL_COLUMNS, *seed_columns(figure.experiment)]
    rows: list[list[Any]] = [
        [value, figure.edges[value], name, *level_fields(outcome.levels[name])]
        for value, outcome in figure.outcomes.items()
        for name in METRIC_NAMES
    ]
    write_csv(table, columns, rows)
    plot_levels(
        picture,
        title=f"{figure.title}\n{_bars(figure.experiment)}",
        axis=figure.axis,
        values=list(figure.outcomes),
        levels={name: [outcome.levels[name] for outcome in figure.outcomes.values()] for name in PLOTTED},
        edges=list(figure.edges.values()) if figure.setting == "threshold" else None,
    )
    return table, picture


def to_json(figure: Figure) -> dict[str, Any]:
    """The figure as JSON."""
    return {
        "title": figure.title,
        "setting": figure.setting,
        "points": [
            {figure.setting: value, "edges": figure.edges[value]}
            | {name: level_json(level) for name, level in outcome.levels.items()}
            for value, outcome in figure.outcomes.items()
        ],
    }


def _figure(
    experiment: Experiment,
    subject: Subject,
    system: str,
    setting: str,
    axis: str,
    setups: dict[Any, Setup],
    quiet: bool,
) -> Figure:
    outcomes = run_all(experiment, subject, setups.values(), quiet)
    by_value = dict(zip(setups, outcomes.values(), strict=True))
    heading = f"{system}: {title(experiment, subject, outcomes.values())}"
    edges = {value: setup.graph.edges for value, setup in setups.items()}
    return Figure(experiment, setting, axis, heading, by_value, edges)


def _bars(experiment: Experiment) -> str:
    """What the plot's points and bars are."""
    points = f"Means over {experiment.seeds} seeds" if experiment.seeds > 1 else "One seed"
    if experiment.resamples:
        return f"{points}; bars: 95 % intervals over {experiment.resamples:,} resamplings of the tested photos."
    return f"{points}; bars: deviation over the seeds." if experiment.seeds > 1 else f"{points}."


def _with(experiment: Experiment, system: str, setting: str, value: float) -> Callable[[int], Job]:
    return lambda seed: replace(experiment.job_of(system, seed), **{setting: value})  # type: ignore[arg-type]


def _different(values: tuple[Any, ...], flag: str) -> tuple[Any, ...]:
    if not values or len(set(values)) < len(values):
        raise UsageError(f"{flag} {','.join(str(value) for value in values)}: expected different numbers.")
    return values
