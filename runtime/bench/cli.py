"""`mlzsl-bench`: parse, measure, print."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from mlzsl.cli.command import command
from mlzsl.cli.errors import UsageError
from mlzsl.cli.options import FiniteFloat, quiet_option
from mlzsl.cli.progress import log
from mlzsl.runtime.bench.baselines import Race
from mlzsl.runtime.bench.benchmark import DEFAULT_COUNT, ModelBench, Settings, bench_model, photos_to_bench
from mlzsl.runtime.bench.compare import compare_on_photos, print_comparison
from mlzsl.runtime.bench.load import BATCH_SIZES, REPEATS, SECONDS
from mlzsl.runtime.bench.plan import plan_model
from mlzsl.runtime.bench.plan_report import plan_as_json, print_plan
from mlzsl.runtime.bench.plot import accuracy_of, check_plot, draw_plot
from mlzsl.runtime.bench.report import as_json, machine, print_bench
from mlzsl.runtime.engine_options import engine_options
from mlzsl.runtime.tagging.pipeline import DEFAULT_BATCH_SIZE

LARGEST_COUNT = 1 << 16
MODE_OF = {"--checkpoint": "--compare", "--embeddings": "--compare", "--cores": "--plan", "--labels": "--plan"}


def _counts(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Read whole numbers from 1 up that are separated by commas: "1,4,16"."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= LARGEST_COUNT for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of whole numbers from 1 to {LARGEST_COUNT}, such as 1,4,16.")
    return tuple(map(int, parts))


@command("mlzsl-bench")
@click.argument("models", nargs=-1, type=click.Path(path_type=Path), metavar="[MODEL]...")
@click.option("--photos", multiple=True, metavar="PHOTOS", help="Files, folders, patterns: measures the pipeline too.")
@click.option("--count", default=DEFAULT_COUNT, type=click.IntRange(1), metavar="N", help="Photos a round; repeated.")
@click.option(
    "--batch-sizes",
    default=",".join(map(str, BATCH_SIZES)),
    callback=_counts,
    metavar="N,N,...",
    help="Pictures a batch, each measured.",
)
@click.option(
    "--in-flight",
    callback=_counts,
    metavar="N,N,...",
    help="Batches at once, each measured.  [default: 1, and as many as the engine runs by itself]",
)
@click.option("--batch-size", default=DEFAULT_BATCH_SIZE, type=click.IntRange(1), help="Photos a batch with --photos.")
@click.option("--repeats", default=REPEATS, type=click.IntRange(1), metavar="N", help="Turns; medians are shown.")
@click.option(
    "--seconds",
    default=SECONDS,
    type=FiniteFloat(0, min_open=True),
    metavar="S",
    help="How long a turn of the engine is measured, after its warm-up.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw rate against batch size, and accuracy, where MODELs are certified for it, against rate: .png or .svg.",
)
@click.option(
    "--compare",
    "comparison_wanted",
    is_flag=True,
    help="Instead, tag --photos with MODELs and, in turns, in other ways: PyTorch, ONNX Runtime, OpenVINO by itself.",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What MODEL was exported from; --compare runs PyTorch from it (needs the extra train).",
)
@click.option(
    "--embeddings",
    metavar="taxonomy|FILE",
    help="Where the embeddings of its training are now, with --checkpoint.  [default: where they were]",
)
@click.option(
    "--plan",
    "plan_wanted",
    is_flag=True,
    help="Instead, measure --photos on fewer cores and predict what --cores will reach, beside what was measured.",
)
@click.option("--cores", callback=_counts, metavar="N,N,...", help="Plan for so many cores.")
@click.option(
    "--labels",
    type=click.IntRange(1),
    metavar="L",
    help="Plan for so many labels, from MODELs with fewer and more; the first one is measured.",
)
@engine_options
@quiet_option
@click.option("--json", "json_wanted", is_flag=True, help="Print every number as JSON.")
def main(
    models: tuple[Path, ...],
    photos: tuple[str, ...],
    count: int,
    batch_sizes: tuple[int, ...],
    in_flight: tuple[int, ...] | None,
    batch_size: int,
    repeats: int,
    seconds: float,
    plot: Path | None,
    comparison_wanted: bool,
    checkpoint: Path | None,
    embeddings: str | None,
    plan_wanted: bool,
    cores: tuple[int, ...] | None,
    labels: int | None,
    quiet: bool,
    json_wanted: bool,
    **engine: Any,
) -> None:
    """Measure how fast MODEL (model.onnx if none is named) is on this machine, with random pictures.

    Every batch size and number in flight is warmed up and measured in turns; medians count. With --photos the way from
    files to tags is measured as well, each stage alone and all together, and the stage that limits is named.

    \b
    Examples:
      mlzsl-bench
      mlzsl-bench model.onnx --batch-sizes 1,8,64 --in-flight 1,2 --json
      mlzsl-bench model.onnx --precision bf16 --photos images/
      mlzsl-bench model.onnx model.bf16.onnx model.int8.onnx --plot bench.png
      mlzsl-bench model.onnx --plan --photos images/ --cores 8,64
      mlzsl-bench model.onnx --compare --photos images/ --checkpoint checkpoint.safetensors
    """
    silent = quiet or json_wanted
    _check_mode(
        {"--compare": comparison_wanted, "--plan": plan_wanted},
        {"--checkpoint": checkpoint, "--embeddings": embeddings, "--cores": cores, "--labels": labels},
        photos,
        plot,
    )
    if plot is not None:
        check_plot(plot)
    settings = Settings(batch_sizes, in_flight, repeats, seconds, batch_size)
    models = models or (Path("model.onnx"),)
    if comparison_wanted:
        race = Race(models, checkpoint, embeddings, batch_size, **engine)
        _compare(race, photos_to_bench(photos, count), repeats, silent, json_wanted)
        return
    if plan_wanted:
        if engine.pop("threads") is not None:
            raise UsageError("--threads: --plan sets the cores itself; leave the flag out.")
        _plan(models, photos_to_bench(photos, count), cores or (), labels, settings, engine, silent, json_wanted)
        return
    found = photos_to_bench(photos, count) if photos else []
    benches = [bench_model(model, settings, found, silent, **engine) for model in models]
    if plot is not None:
        draw_plot(benches, plot)
        for bench in benches if len(benches) > 1 else ():
            if accuracy_of(bench) is None:
                log(_uncertified(bench), silent)
    if json_wanted:
        click.echo(json.dumps({"machine": machine(), "models": [as_json(bench) for bench in benches]}, indent=2))
        return
    console = Console(highlight=False)
    for bench in benches:
        print_bench(bench, console)
    if plot is not None:
        console.print(f"wrote {plot}", markup=False, soft_wrap=True)


def _check_mode(modes: dict[str, bool], flags: dict[str, object], photos: tuple[str, ...], plot: Path | None) -> None:
    """Refuse flags that would count for nothing, and runs without what they need."""
    wanted = [mode for mode, asked in modes.items() if asked]
    if len(wanted) > 1:
        raise UsageError("--compare and --plan: each is a run of its own; choose one.")
    for flag, value in flags.items():
        if value is not None and MODE_OF[flag] not in wanted:
            raise UsageError(f"{flag}: belongs to {MODE_OF[flag]}; add that, or leave {flag} out.")
    for mode in wanted:
        if not photos:
            raise UsageError(f"{mode}: name photos to tag, with --photos images/.")
        if plot is not None:
            raise UsageError(f"--plot {plot}: is not drawn with {mode}; leave one of them out.")


def _compare(race: Race, paths: list[str], repeats: int, quiet: bool, json_wanted: bool) -> None:
    log("opening what is compared", quiet)
    comparison = compare_on_photos(race, paths, repeats, quiet)
    if json_wanted:
        click.echo(json.dumps({"machine": machine(), "comparison": asdict(comparison)}, indent=2))
    else:
        print_comparison(comparison, Console(highlight=False))


def _plan(
    models: tuple[Path, ...],
    paths: list[str],
    cores: tuple[int, ...],
    labels: int | None,
    settings: Settings,
    engine: dict[str, Any],
    quiet: bool,
    json_wanted: bool,
) -> None:
    rows, cost = plan_model(models, paths, cores, labels, settings, quiet, **engine)
    if json_wanted:
        click.echo(json.dumps({"machine": machine(), "plan": plan_as_json(rows, cost)}, indent=2))
    else:
        print_plan(rows, cost, Console(highlight=False))


def _uncertified(bench: ModelBench) -> str:
    execution = bench.execution
    return (
        f"{bench.model}: its certificate for {execution.backend} {execution.precision} tells no mAP, so --plot "
        f"shows its rate only; certify it with `mlzsl-verify {bench.model} --against FP32.onnx --photos DIR "
        "--labels-json FILE --certify`"
    )
