"""The command `mlzsl-experiment`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlzsl.cli.command import group
from mlzsl.cli.errors import UsageError
from mlzsl.cli.options import AliasedOption, json_option, model_option, quiet_option
from mlzsl.train.options import (
    backbone_options,
    combine,
    data_options,
    hidden_dim_option,
    job_from_flags,
    layers_option,
    threshold_option,
    training_options,
)

if TYPE_CHECKING:  # torch and matplotlib are heavy: --help must not wait for them
    from mlzsl.train.experiments.experiment import Experiment
    from mlzsl.train.experiments.report import Report

experiment_options = combine(
    data_options,
    backbone_options,
    hidden_dim_option,
    training_options,
    click.option("--seeds", default=3, type=click.IntRange(1, 100), help="Trainings of each model: --seed and up."),
    click.option(
        "--folds",
        type=click.IntRange(2, 100),
        help="Cross-validation folds, for data without a split of its own; each photo is tested once.",
    ),
    click.option(
        "--resamples",
        default=1000,
        type=click.IntRange(0, 100_000),
        help="Bootstrap resamples of the test photos for 95 % intervals; 0 for none.",
    ),
    click.option(
        "-o",
        "--output",
        default=Path("experiments"),
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder for the results.",
    ),
    quiet_option,
    json_option,
)


@group("mlzsl-experiment")
def main() -> None:
    """Make the paper's table 1 and figure 3 on any dataset.

    Features are extracted once, and finished runs are cached: the same command resumes an interrupted experiment.

    \b
    Examples:
      mlzsl-experiment table1
      mlzsl-experiment table1 --data coco:/data/coco --embeddings glove.6B.300d.txt
      mlzsl-experiment table1 --data photos/ --folds 5 --backbone resnet50
      mlzsl-experiment layers
      mlzsl-experiment threshold
    """


@main.subcommand("table1")
@click.option(
    "--models",
    cls=AliasedOption,
    aliases=("--systems",),
    metavar="NAME,NAME,…",
    help="The rows.  [default: all models; zero-shot for a CLIP backbone only]",
)
@threshold_option
@layers_option
@experiment_options
def table1(models: str | None, output: Path, quiet: bool, as_json: bool, **flags: Any) -> None:
    """Table 1: all models on seen and unseen labels.

    Writes table1.md, with mAP and miAP, those of chance and those of the paper, and table1.csv, which adds precision,
    recall and F1 of the 3 and 5 best labels.
    """
    from mlzsl.train.experiments.table1 import make_table1
    from mlzsl.train.models.registry import MODELS

    names = None if models is None else _split(models)
    report = make_table1(_experiment(flags, names or tuple(MODELS)), output, names, quiet=quiet or as_json)
    _print(report, quiet, as_json)


@main.subcommand("layers")
@click.option("--values", default="1,2,3,4,5,6", metavar="N,N,…", help="Numbers of graph layers.")
@model_option("RGCN, RGCN-XL or RGCN-PosVAE.", default="RGCN-PosVAE")
@threshold_option
@experiment_options
def layers(**flags: Any) -> None:
    """Figure 3(a): number of graph layers.

    Writes layers.csv and layers.png.
    """
    _figure3("layers", (int, 1, 16), **flags)


@main.subcommand("threshold")
@click.option("--values", default="0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8", metavar="X,X,…", help="WUP thresholds.")
@model_option("Any model.", default="RGCN-PosVAE")
@layers_option
@experiment_options
def threshold(**flags: Any) -> None:
    """Figure 3(b): WUP threshold.

    Writes threshold.csv and threshold.png, with the number of edges at each threshold.
    """
    _figure3("threshold", (float, 0, 1), **flags)


def _figure3(
    setting: str,
    bounds: tuple[Callable[[str], float], float, float],
    values: str,
    output: Path,
    quiet: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    from mlzsl.train.experiments.figure3 import make_figure3

    kind, low, high = bounds
    try:
        numbers = tuple(kind(word) for word in _split(values))
    except ValueError:
        numbers = ()
    if not numbers or not all(low <= number <= high for number in numbers):
        raise UsageError(f"--values {values}: expected numbers from {low} to {high}, separated by commas.")
    report = make_figure3(_experiment(flags, (flags["model"],)), output, setting, numbers, quiet=quiet or as_json)
    _print(report, quiet, as_json)


def _experiment(flags: dict[str, Any], models: tuple[str, ...]) -> "Experiment":
    from mlzsl.train.experiments.experiment import Experiment

    own = {name: flags.pop(name) for name in ("seeds", "folds", "resamples")}
    return Experiment(job_from_flags(flags, models), **own)


def _print(report: "Report", quiet: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report.content, indent=2))
    elif not quiet:
        click.echo(f"{report.text}\nwrote {report.files[0]} and {report.files[1]}")


def _split(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
