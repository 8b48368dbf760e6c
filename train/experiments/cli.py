"""`mlzsl-experiment`: parse, run, print."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mlzsl.cli.command import command, group
from mlzsl.cli.errors import UsageError
from mlzsl.cli.options import AliasedOption, FiniteFloat, json_option, model_option, quiet_option

SHARED = [
    click.option(
        "--data",
        default="scenes",
        metavar="scenes|FOLDER|FORMAT:PATH",
        help="The photos, as in mlzsl-train: the generated set, a folder with a labels.json, or coco:PATH, "
        "nuswide:PATH, voc:PATH, openimages:PATH.",
    ),
    click.option("--labels", metavar="NAME|FILE", help="The label set.  [default: the data's own]"),
    click.option(
        "--unseen",
        metavar="SPLIT|FILE|none",
        help="The labels that training must not see.  [default: the paper's 16 of coco80 and of nuswide81]",
    ),
    click.option(
        "--seeds", default=3, type=click.IntRange(1, 100), help="How many trainings of each, a seed for each."
    ),
    click.option(
        "--seed", default=42, type=click.IntRange(0, 2**30), help="The first seed; it also divides the photos."
    ),
    click.option(
        "--folds",
        type=click.IntRange(2, 100),
        help="Test every photo once, in so many parts (data without a split of its own).",
    ),
    click.option(
        "--held-out",
        type=FiniteFloat(0, 1, min_open=True, max_open=True),
        help="Share of the photos to test on, for data without a split of its own.  [default: 0.2]",
    ),
    click.option(
        "--resamples",
        default=1000,
        type=click.IntRange(0, 100_000),
        help="How often the tested photos are drawn anew for 95 % intervals; 0 leaves them out.",
    ),
    click.option(
        "--backbone",
        type=click.Choice(["small", "resnet18", "resnet34", "resnet50", "resnet101"]),
        help="The frozen feature extractor.  [default: small for scenes, else resnet101]",
    ),
    click.option(
        "--backbone-weights",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Local weights of the backbone.  [default: torchvision's, downloaded once]",
    ),
    click.option("--image-size", type=click.IntRange(32, 1024), help="Side of the picture that the backbone sees."),
    click.option("--embeddings", default="taxonomy", metavar="taxonomy|FILE", help="Class embeddings."),
    click.option("--hidden-dim", type=click.IntRange(1, 8192), help="d_h of the systems that have it.  [default: 256]"),
    click.option("--epochs", default=9, type=click.IntRange(1), help="Passes over the photos."),
    click.option("--batch-size", default=32, type=click.IntRange(1), help="Photos a step."),
    click.option("--learning-rate", default=5e-4, type=FiniteFloat(0, min_open=True), help="Adam's, at first."),
    click.option(
        "--cache",
        default=Path("mlzsl-cache"),
        type=click.Path(path_type=Path),
        help="Folder for what can be made again: scenes, features, and the runs that are done.",
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
]
THRESHOLD = click.option(
    "--threshold",
    default=0.5,
    type=FiniteFloat(0, 1),
    help="WUP similarity above which two classes share an edge.",
)
LAYERS = click.option("--layers", type=click.IntRange(1, 16), help="Graph layers of the RGCN systems.  [default: 2]")


def shared(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flags that all experiments have."""
    for option in reversed(SHARED):
        function = option(function)
    return function


@group("mlzsl-experiment")
def main() -> None:
    """Make the paper's table and figures, on the data you name.

    Features are extracted once. Runs that are done are kept: called again, an experiment goes on where it stopped.

    \b
    Examples:
      mlzsl-experiment table1
      mlzsl-experiment table1 --data coco:/data/coco --embeddings glove.6B.300d.txt
      mlzsl-experiment table1 --data photos/ --folds 5 --backbone resnet50
      mlzsl-experiment layers
      mlzsl-experiment threshold
    """


@command("mlzsl-experiment table1")
@click.option(
    "--models",
    cls=AliasedOption,
    aliases=("--systems",),
    metavar="NAME,NAME,…",
    help="The rows.  [default: all models]",
)
@THRESHOLD
@LAYERS
@shared
def table1(models: str | None, output: Path, quiet: bool, as_json: bool, **flags: Any) -> None:
    """Table 1: all systems on seen and unseen labels.

    Writes table1.md, mAP and miAP beside chance and the paper's figures, and table1.csv, with precision, recall and F1
    of the 3 and 5 best labels besides.
    """
    from mlzsl.train.experiments.table1 import make_table1, markdown, to_json, write_table1  # torch is heavy
    from mlzsl.train.models.registry import MODELS

    names = tuple(MODELS) if models is None else _split(models)
    table = make_table1(_experiment(flags), names, quiet=quiet or as_json)
    written = write_table1(table, output)
    _show(json.dumps(to_json(table), indent=2) if as_json else markdown(table), written, quiet, as_json)


@command("mlzsl-experiment layers")
@click.option("--values", default="1,2,3,4,5,6", metavar="N,N,…", help="Numbers of graph layers.")
@model_option("RGCN, RGCN-XL or RGCN-PosVAE.", default="RGCN-PosVAE")
@THRESHOLD
@shared
def layers(values: str, model: str, output: Path, quiet: bool, as_json: bool, **flags: Any) -> None:
    """Figure 3(a): number of graph layers.

    Writes layers.csv and layers.png.
    """
    from mlzsl.train.experiments.figure3 import make_layers, to_json, write_figure

    numbers = _numbers(values, int, 1, 16)
    figure = make_layers(_experiment(flags), numbers, model, quiet=quiet or as_json)
    written = write_figure(figure, output)
    _show(json.dumps(to_json(figure), indent=2) if as_json else figure.title, written, quiet, as_json)


@command("mlzsl-experiment threshold")
@click.option("--values", default="0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8", metavar="X,X,…", help="Thresholds.")
@model_option("Any model.", default="RGCN-PosVAE")
@LAYERS
@shared
def threshold(values: str, model: str, output: Path, quiet: bool, as_json: bool, **flags: Any) -> None:
    """Figure 3(b): threshold of the WUP similarity.

    Writes threshold.csv and threshold.png, with the number of edges at each threshold.
    """
    from mlzsl.train.experiments.figure3 import make_threshold, to_json, write_figure

    numbers = _numbers(values, float, 0, 1)
    figure = make_threshold(_experiment(flags), numbers, model, quiet=quiet or as_json)
    written = write_figure(figure, output)
    _show(json.dumps(to_json(figure), indent=2) if as_json else figure.title, written, quiet, as_json)


for name, each in {"table1": table1, "layers": layers, "threshold": threshold}.items():
    main.add_command(each, name)


def _experiment(flags: dict[str, Any]) -> Any:
    from mlzsl.train.experiments.experiment import Experiment  # torch is heavy: --help must not wait for it
    from mlzsl.train.training.job import Job
    from mlzsl.train.training.trainer import TrainingConfig

    training = TrainingConfig(**{name: flags.pop(name) for name in ("epochs", "batch_size", "learning_rate", "seed")})
    whole = {name: flags.pop(name) for name in ("seeds", "folds", "resamples")}
    flags["backbone"] = flags["backbone"] or ("small" if flags["data"] == "scenes" else "resnet101")
    return Experiment(Job(training=training, **flags), **whole)


def _show(result: str, written: tuple[Path, ...], quiet: bool, as_json: bool) -> None:
    if as_json:
        click.echo(result)
    elif not quiet:
        click.echo(f"{result}\nwrote {' and '.join(str(path) for path in written)}")


def _split(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(text: str, kind: Callable[[str], Any], low: float, high: float) -> tuple[Any, ...]:
    try:
        numbers = tuple(kind(word) for word in _split(text))
    except ValueError:
        numbers = ()
    if not numbers or not all(low <= number <= high for number in numbers):
        raise UsageError(f"--values {text}: expected numbers from {low} to {high}, separated by commas.")
    return numbers
