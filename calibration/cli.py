"""`mlzsl-calibrate`: parse, calibrate, print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from mlzsl.cli.command import command
from mlzsl.cli.options import FiniteFloat, json_option, quiet_option

if TYPE_CHECKING:
    from mlzsl.calibration.sensitivity import Sensitivity, Step

SHOWN = 10  # of the ranked layers
COLUMNS = ("kept float", "mAP lost, points", "best labels that stay", "multiply-adds quantized", "estimated speed")


@command("mlzsl-calibrate")
@click.argument("model", default="model.onnx", type=click.Path(path_type=Path))
@click.option(
    "--photos",
    multiple=True,
    metavar="PHOTOS",
    help="Files, folders or patterns of photos like those that will be tagged. Some of them calibrate, others measure "
    "the drop; a folder with a labels.json also gives the drop of mAP.",
)
@click.option(
    "--precision",
    default="int8",
    type=click.Choice(["fp16", "bf16", "int8", "fp8"]),
    help="What to write. fp16 and bf16 need no photos, but are measured where there are some.",
)
@click.option(
    "--for",
    "target",
    type=click.Choice(["openvino", "tensorrt", "onnxruntime"]),
    help="What will run an INT8 file: each fuses other placements of the quantization.  [default: openvino]",
)
@click.option(
    "--method",
    default="mse",
    type=click.Choice(["mse", "entropy", "percentile", "minmax"]),
    help="How a tensor's range is chosen from the values seen.",
)
@click.option("--count", default=256, type=click.IntRange(1), metavar="N", help="Photos that calibrate, at most.")
@click.option(
    "--check",
    metavar="PHOTOS",
    help="Measure the drop on these photos.  [default: photos of --photos that do not calibrate]",
)
@click.option("--check-count", default=256, type=click.IntRange(1), metavar="N", help="Photos that measure, at most.")
@click.option("--seed", default=0, type=click.IntRange(0, 2**31 - 1), help="Of the choice of photos.")
@click.option(
    "--max-drop",
    default=1.0,
    type=FiniteFloat(0),
    metavar="POINTS",
    help="Keep the most sensitive layers in float until at most so many points of mAP are lost, seen or unseen, where "
    "the photos have labels.",
)
@click.option(
    "--min-agreement",
    default=97.5,
    type=FiniteFloat(0, 100),
    metavar="PERCENT",
    help="Keep them also until so many of the best 3 labels stay the same.",
)
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Use the ranges of an earlier calibration of this model again, such as model.int8.calibration.json.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The model file to write.  [default: MODEL with the precision before .onnx]",
)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads at most.  [default: every core]")
@quiet_option
@json_option
def main(
    model: Path,
    photos: tuple[str, ...],
    precision: str,
    target: str | None,
    method: str,
    count: int,
    check: str | None,
    check_count: int,
    seed: int,
    max_drop: float,
    min_agreement: float,
    record: Path | None,
    output: Path | None,
    threads: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write the fp32 MODEL in another precision, and measure what that costs.

    The result is again a model file: the precision stands in its graph, so every engine runs what was measured. INT8
    and FP8 quantize the convolutions; their ranges come from photos and are kept beside the file, to be used again.

    \b
    Examples:
      mlzsl-calibrate --photos images/
      mlzsl-calibrate model.onnx --photos images/ --for tensorrt
      mlzsl-calibrate model.onnx --photos images/ --check labelled/ --max-drop 0.5
      mlzsl-calibrate model.onnx --precision fp8 --record model.int8.calibration.json
      mlzsl-calibrate model.onnx --precision fp16
    """
    from mlzsl.calibration.calibrate import calibrate  # onnx is heavy: --help must not wait for it
    from mlzsl.calibration.settings import Settings

    settings = Settings(precision, target, method, count, check_count, seed, max_drop, min_agreement, threads)
    made = calibrate(model, photos, settings, output, check, record, quiet=quiet or as_json)
    if as_json:
        click.echo(json.dumps(made.to_json(), indent=2))
    elif not quiet:
        console = Console(highlight=False)
        if made.ranked:
            console.print(_ranking(made.ranked))
        if made.ladder:
            console.print(_ladder(made.ladder, made.layers))
        if made.drop is not None:
            console.print(_lines(f"What {precision} costs", made.drop.lines()))
        beside = f" and {made.record}" if made.record else ""
        click.echo(f"wrote {made.path}{beside} in {made.seconds:.0f} s; next: mlzsl-verify {made.path}")


def _ranking(ranked: tuple[Sensitivity, ...]) -> Table:
    table = Table(
        "layer",
        "mean score difference, quantized alone",
        "multiply-adds",
        title="Layers worth keeping",
        title_justify="left",
    )
    for entry in ranked[:SHOWN]:
        table.add_row(entry.layer, f"{entry.harm:.1e}", f"{entry.share:.1%}")
    return table


def _ladder(steps: tuple[Step, ...], layers: int) -> Table:
    table = Table(title=f"{layers} layers", title_justify="left")
    for heading in COLUMNS:
        table.add_column(heading, justify="right")
    for step in steps:
        table.add_row(
            str(len(step.kept)),
            f"{step.drop.points:.2f}" if step.drop.mAP else "not known",
            f"{step.drop.agreement.top_agreement:.1%}",
            f"{step.quantized_share:.0%}",
            f"{step.speed:.1f} x fp32",
        )
    return table


def _lines(title: str, lines: list[tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    for line in lines:
        table.add_row(*line)
    return table
