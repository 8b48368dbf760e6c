"""`mlzsl-bench`: measure model files, compare them with baselines, plan for other machines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mlzsl.cli.command import group
from mlzsl.cli.options import FiniteFloat, json_option, model_files, quiet_option, refuse_unused
from mlzsl.cli.progress import log
from mlzsl.runtime.bench.benchmark import (
    DEFAULT_COUNT,
    ModelBench,
    Settings,
    accuracy_of,
    bench_model,
    check_models,
    machine,
    photos_to_bench,
    report_bench,
)
from mlzsl.runtime.bench.benchmark import as_json as bench_as_json
from mlzsl.runtime.bench.compare import Comparison, compare_on_photos, report_comparison
from mlzsl.runtime.bench.load import BATCH_SIZES, REPEATS, SECONDS
from mlzsl.runtime.bench.plan import plan_model, report_plan
from mlzsl.runtime.bench.plot import check_plot, draw_plot
from mlzsl.runtime.engine_options import engine_options, execution_options
from mlzsl.runtime.report import print_json, print_parts
from mlzsl.runtime.tagging.pipeline import DEFAULT_BATCH_SIZE

MAX_COUNT = 1 << 16


def _counts(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Read whole numbers from 1 up that are separated by commas: "1,4,16"."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= MAX_COUNT for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of whole numbers from 1 to {MAX_COUNT}, such as 1,4,16.")
    return tuple(map(int, parts))


def _photo_options(required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--photos, --count and --batch-size."""
    options = (
        click.option(
            "--photos", multiple=True, required=required, metavar="PHOTOS", help="Files, folders, patterns to tag."
        ),
        click.option("--count", default=DEFAULT_COUNT, type=click.IntRange(1), metavar="N", help="Photos of a repeat."),
        click.option("--batch-size", default=DEFAULT_BATCH_SIZE, type=click.IntRange(1), help="Photos per batch."),
    )

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_repeats = click.option(
    "--repeats", default=REPEATS, type=click.IntRange(1), metavar="N", help="Repeats; medians are reported."
)
_seconds = click.option(
    "--seconds",
    default=SECONDS,
    type=FiniteFloat(0, min_open=True),
    metavar="S",
    help="How long each repeat of the engine is measured, after its warm-up.",
)


@group("mlzsl-bench", default="run")
def main() -> None:
    """Measure the speed of model files on this machine.

    `mlzsl-bench FILE` is `mlzsl-bench run FILE`.

    \b
    Examples:
      mlzsl-bench model.onnx
      mlzsl-bench run model.onnx --photos images/
      mlzsl-bench compare model.onnx --photos images/ --checkpoint checkpoint.safetensors
      mlzsl-bench plan model.onnx --photos images/ --cores 8,64
    """


@main.subcommand("run")
@model_files
@_photo_options(required=False)
@click.option(
    "--batch-sizes",
    default=",".join(map(str, BATCH_SIZES)),
    callback=_counts,
    metavar="N,N,...",
    help="Images per batch, each measured.",
)
@click.option(
    "--in-flight",
    callback=_counts,
    metavar="N,N,...",
    help="Batches at once, each measured.  [default: 1, and as many as the engine runs at once]",
)
@_repeats
@_seconds
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Plot rate against batch size and, for certified MODELs, mAP against rate: .png or .svg.",
)
@engine_options
@quiet_option
@json_option
def run(
    models: tuple[Path, ...],
    photos: tuple[str, ...],
    count: int,
    batch_sizes: tuple[int, ...],
    in_flight: tuple[int, ...] | None,
    batch_size: int,
    repeats: int,
    seconds: float,
    plot: Path | None,
    quiet: bool,
    as_json: bool,
    **engine: Any,
) -> None:
    """Measure rate, latency and memory of MODEL, and of the pipeline.

    The engine's input is random images. Every batch size and number in flight is measured after a warm-up, in
    interleaved repeats. With --photos, decoding, the engine and the whole pipeline are measured too, and the limiting
    stage is named.

    \b
    Examples:
      mlzsl-bench run model.onnx --batch-sizes 1,8,64 --in-flight 1,2 --json
      mlzsl-bench run model.onnx --precision bf16 --photos images/
      mlzsl-bench run model.onnx model.bf16.onnx model.int8.onnx --plot bench.png
    """
    silent = quiet or as_json
    if not photos:
        refuse_unused("without --photos", "count", "batch_size")
    if plot is not None:
        check_plot(plot)
    check_models(models)
    settings = Settings(batch_sizes, in_flight, repeats, seconds, batch_size)
    paths = photos_to_bench(photos, count) if photos else []
    benches = [bench_model(model, settings, paths, silent, **engine) for model in models]
    if plot is not None:
        draw_plot(benches, plot)
        for bench in benches if len(benches) > 1 else ():
            if accuracy_of(bench) is None:
                log(_uncertified(bench), silent)
    if as_json:
        print_json({"machine": machine(), "models": [bench_as_json(bench) for bench in benches]})
        return
    for bench in benches:
        print_parts(report_bench(bench))
    if plot is not None:
        print_parts([f"wrote {plot}"])


@main.subcommand("compare")
@model_files
@_photo_options(required=True)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The checkpoint that MODEL was exported from, to compare with PyTorch (needs the extra train).",
)
@click.option(
    "--embeddings",
    metavar="taxonomy|FILE",
    help="Where the embeddings of its training are now, with --checkpoint.  [default: where they were]",
)
@_repeats
@engine_options
@quiet_option
@json_option
def compare(
    models: tuple[Path, ...],
    photos: tuple[str, ...],
    count: int,
    batch_size: int,
    checkpoint: Path | None,
    embeddings: str | None,
    repeats: int,
    quiet: bool,
    as_json: bool,
    **engine: Any,
) -> None:
    """Compare MODEL with other MODELs and with baselines on photos.

    The baselines are PyTorch, ONNX Runtime and OpenVINO without mlzsl. The report has the rate of each, the speed-up
    of MODEL over it, and the largest difference of a score. Baselines that are not installed are listed with the
    reason.

    \b
    Examples:
      mlzsl-bench compare model.onnx --photos images/
      mlzsl-bench compare model.onnx model.int8.onnx --photos images/ --checkpoint checkpoint.safetensors
    """
    silent = quiet or as_json
    if checkpoint is None:
        refuse_unused("without --checkpoint", "embeddings")
    comparison = Comparison(models, checkpoint, embeddings, batch_size, **engine)
    comparison.check_files()
    paths = photos_to_bench(photos, count)
    log("opening the model files and baselines", silent)
    result = compare_on_photos(comparison, paths, repeats, silent)
    if as_json:
        print_json({"machine": machine(), "comparison": result})
    else:
        print_parts(report_comparison(result))


@main.subcommand("plan")
@model_files
@_photo_options(required=True)
@click.option("--cores", callback=_counts, metavar="N,N,...", help="Numbers of cores to predict the rate for.")
@click.option(
    "--labels",
    type=click.IntRange(1),
    metavar="L",
    help="Number of labels to predict the rate for, from MODELs with fewer and more; the first one is measured.",
)
@_repeats
@_seconds
@execution_options
@quiet_option
@json_option
def plan(
    models: tuple[Path, ...],
    photos: tuple[str, ...],
    count: int,
    batch_size: int,
    cores: tuple[int, ...] | None,
    labels: int | None,
    repeats: int,
    seconds: float,
    quiet: bool,
    as_json: bool,
    **engine: Any,
) -> None:
    """Predict the tagging rate on more cores, or with more labels.

    The prediction is fitted to measurements on fewer cores of this machine (Linux only).

    \b
    Examples:
      mlzsl-bench plan model.onnx --photos images/ --cores 8,64
      mlzsl-bench plan coco80.onnx voc20.onnx --photos images/ --labels 50
    """
    if labels is None:
        refuse_unused("without --labels", "seconds")
    check_models(models)
    settings = Settings(repeats=repeats, seconds=seconds, batch_size=batch_size)
    paths = photos_to_bench(photos, count)
    predictions, cost = plan_model(models, paths, cores or (), labels, settings, quiet or as_json, **engine)
    if as_json:
        print_json({"machine": machine(), "plan": {"cores": predictions, "labels": cost}})
    else:
        print_parts(report_plan(predictions, cost))


def _uncertified(bench: ModelBench) -> str:
    execution = bench.execution
    return (
        f"{bench.model}: has no certificate with mAP for {execution.backend} {execution.precision}, so --plot shows "
        f"its rate only; certify it with `mlzsl-verify {bench.model} --against FP32.onnx --photos DIR "
        "--labels-json FILE --certify`"
    )
