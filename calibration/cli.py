"""`mlzsl-calibrate`: parse, calibrate, print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Column, Table

from mlzsl.cli.command import command
from mlzsl.cli.options import FiniteFloat, json_option, model_file, quiet_option, refuse_unused

if TYPE_CHECKING:
    from mlzsl.calibration.calibrate import Calibrated
    from mlzsl.calibration.ranges import Method

SHOWN = 10  # of the ranked layers


@command("mlzsl-calibrate")
@model_file
@click.option(
    "--photos",
    multiple=True,
    metavar="PHOTOS",
    help="Files, folders or patterns of photos like those to be tagged. Some calibrate, others measure the accuracy "
    "drop; a folder with a labels.json also gives the drop of mAP.",
)
@click.option(
    "--precision",
    default="int8",
    type=click.Choice(["fp16", "bf16", "int8", "fp8"]),
    help="The precision to write. fp16 and bf16 need no photos; with photos their accuracy drop is measured.",
)
@click.option(
    "--for",
    "target",
    type=click.Choice(["openvino", "tensorrt", "onnxruntime"]),
    help="The backend that will run an INT8 file: each fuses other QDQ patterns.  [default: openvino]",
)
@click.option(
    "--method",
    default="mse",
    type=click.Choice(["mse", "entropy", "percentile", "minmax"]),
    help="How a tensor's range is chosen from its values.",
)
@click.option("--count", default=256, type=click.IntRange(1), metavar="N", help="Photos that calibrate, at most.")
@click.option(
    "--check",
    metavar="PHOTOS",
    help="Measure the accuracy drop on these photos.  [default: photos of --photos that do not calibrate]",
)
@click.option("--check-count", default=256, type=click.IntRange(1), metavar="N", help="Photos that measure, at most.")
@click.option("--seed", default=0, type=click.IntRange(0, 2**31 - 1), help="Seed of the choice of photos.")
@click.option(
    "--max-drop",
    default=1.0,
    type=FiniteFloat(0),
    metavar="POINTS",
    help="Keep the most sensitive layers in float until at most this many points of mAP, seen or unseen, are lost on "
    "photos with labels.",
)
@click.option(
    "--min-agreement",
    default=97.5,
    type=FiniteFloat(0, 100),
    metavar="PERCENT",
    help="Keep the most sensitive layers in float until the top-3 agreement is at least this high as well.",
)
@click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Reuse the ranges of an earlier calibration of the model, such as model.int8.calibration.json.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
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
    method: Method,
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
    """Convert the fp32 file MODEL to fp16, bf16, INT8 or FP8, and measure the accuracy drop.

    The result is a model file as well: the precision is stated in its graph, so every engine runs what was measured.
    INT8 and FP8 quantize the convolutions; their ranges come from photos and are kept in a record beside the file.

    \b
    Examples:
      mlzsl-calibrate --photos images/
      mlzsl-calibrate model.onnx --photos images/ --for tensorrt
      mlzsl-calibrate model.onnx --photos images/ --check labelled/ --max-drop 0.5
      mlzsl-calibrate model.onnx --precision fp8 --record model.int8.calibration.json
      mlzsl-calibrate model.onnx --precision fp16
    """
    from mlzsl.calibration.calibrate import calibrate  # imports onnx, which --help need not wait for
    from mlzsl.calibration.settings import QUANTIZED, Settings

    if precision not in QUANTIZED:
        refuse_unused(f"with --precision {precision}", "method", "count", "max_drop", "min_agreement")
    if not photos:
        refuse_unused("without --photos", "count", "check_count", "seed", "max_drop", "min_agreement")
    settings = Settings(precision, target, method, count, check_count, seed, max_drop, min_agreement, threads)
    made = calibrate(model, photos, settings, output, check, record, quiet=quiet or as_json)
    if as_json:
        click.echo(json.dumps(made.to_json(), indent=2))
    elif not quiet:
        _print(made)


def _print(made: Calibrated) -> None:
    console = Console(highlight=False)
    if made.ranked:
        table = Table("layer", "sensitivity", "share of MACs", title="Most sensitive layers", title_justify="left")
        for entry in made.ranked[:SHOWN]:
            table.add_row(entry.layer, f"{entry.sensitivity:.1e}", f"{entry.share:.1%}")
        console.print(table)
    if made.candidates:
        headings = ("in float", "mAP lost, points", "top-k agreement", "MACs quantized", "estimated speedup")
        table = Table(
            *(Column(heading, justify="right") for heading in headings),
            title=f"{made.layers} layers",
            title_justify="left",
        )
        for candidate in made.candidates:
            table.add_row(
                str(len(candidate.kept)),
                f"{candidate.accuracy_drop.points:.2f}" if candidate.accuracy_drop.mAP else "no labels",
                f"{candidate.accuracy_drop.agreement.top_agreement:.1%}",
                f"{candidate.quantized_share:.0%}",
                f"{candidate.speedup:.1f} x fp32",
            )
        console.print(table)
    if made.accuracy_drop is not None:
        table = Table(title=f"Accuracy drop of {made.manifest.precision}", title_justify="left", show_header=False)
        for line in made.accuracy_drop.lines():
            table.add_row(*line)
        console.print(table)
    beside = f" and {made.record}" if made.record else ""
    click.echo(f"wrote {made.path}{beside} in {made.seconds:.0f} s; next: mlzsl-verify {made.path}")
