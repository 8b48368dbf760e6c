"""`mlzsl-build`: parse, build, print."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from mlzsl.cli.command import command
from mlzsl.cli.errors import UsageError
from mlzsl.cli.options import json_option, quiet_option
from mlzsl.engines.artifact.plan_manifest import DEFAULT_LEVEL, HARDWARE, BatchProfile, Hardware, manifest_path
from mlzsl.engines.tensorrt.build import Build, build_plan
from mlzsl.engines.tensorrt.options import DEFAULT_BATCH, BuildOptions
from mlzsl.engines.tensorrt.timing_cache import DEFAULT_FOLDER


@command("mlzsl-build")
@click.argument("model", default="model.onnx", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The plan.  [default: MODEL's name in .plan]",
)
@click.option("--rtx", is_flag=True, help="Build with TensorRT-RTX: no GPU needed, for GPUs of the RTX class.")
@click.option(
    "--batch", default=str(DEFAULT_BATCH), metavar="MIN,OPT,MAX", help="Batch sizes to take; fastest at the middle one."
)
@click.option(
    "--compute-capability",
    "capabilities",
    multiple=True,
    metavar="X.Y",
    help="With --rtx, a GPU to build for, such as 8.9; give it again for more.  [default: all it knows]",
)
@click.option("--optimization-level", default=DEFAULT_LEVEL, type=click.IntRange(0, 5), help="More takes longer.")
@click.option("--workspace", type=click.IntRange(1), metavar="MIB", help="Most scratch memory a layer may take.")
@click.option("--version-compatible", is_flag=True, help="Let later versions of TensorRT load it too; may be slower.")
@click.option("--hardware", default=HARDWARE[0], type=click.Choice(HARDWARE), help="Which GPUs may run it.")
@click.option("--strip-weights", is_flag=True, help="Leave the weights out; MODEL must then lie beside the plan.")
@click.option(
    "--timing-cache",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help=f"Where TensorRT's kernel times are kept, by GPU and version.  [default: {DEFAULT_FOLDER}]",
)
@click.option("--layers", is_flag=True, help="Print every layer of the plan.")
@quiet_option
@json_option
def main(
    model: Path,
    output: Path | None,
    rtx: bool,
    batch: str,
    capabilities: tuple[str, ...],
    optimization_level: int,
    workspace: int | None,
    version_compatible: bool,
    hardware: Hardware,
    strip_weights: bool,
    timing_cache: Path | None,
    layers: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compile the model file MODEL into a TensorRT plan, in the precision that MODEL has.

    Writes model.plan, which NVIDIA's own tools load as it is, and model.plan.json, which says what it is: keep the two
    together. TensorRT builds on the GPU that is to run the plan. TensorRT-RTX (--rtx) builds anywhere, for GeForce
    and RTX GPUs.

    \b
    Examples:
      mlzsl-build --rtx
      mlzsl-build model.int8.onnx --batch 1,32,128
      mlzsl-build model.onnx --rtx --compute-capability 8.9 --compute-capability 12.0
      mlzsl-infer photos/ --engine model.plan --device cuda
    """
    options = BuildOptions(
        rtx=rtx,
        batch=_profile(batch),
        optimization_level=optimization_level,
        workspace_mib=workspace,
        compute_capabilities=capabilities,
        version_compatible=version_compatible,
        hardware=hardware,
        strip_weights=strip_weights,
        timing_cache=timing_cache,
    )
    build = build_plan(model, output, options, quiet=quiet or as_json)
    if as_json:
        click.echo(json.dumps(_as_json(build), indent=2))
    elif not quiet:
        _print(build, layers)


def _profile(text: str) -> BatchProfile:
    """`MIN,OPT,MAX`, or one number for 1 to it."""
    try:
        counts = [int(word) for word in text.split(",")]
    except ValueError:
        counts = []
    if len(counts) == 1:
        return BatchProfile(1, counts[0], counts[0])
    if len(counts) != 3:
        raise UsageError(f"--batch {text}: expected three numbers MIN,OPT,MAX such as {DEFAULT_BATCH}, or one.")
    return BatchProfile(*counts)


def _as_json(build: Build) -> dict[str, object]:
    return {
        "plan": str(build.path),
        "manifest": str(manifest_path(build.path)),
        "plan_bytes": build.plan_bytes,
        "seconds": round(build.seconds, 3),
        "ports": build.ports,
        "precision": build.manifest.model.precision,
        "build": msgspec.to_builtins(build.manifest.build),
        "layers": [asdict(layer) for layer in build.layers],
    }


def _print(build: Build, layers: bool) -> None:
    console = Console(highlight=False)
    record = build.manifest.build
    if layers:
        _print_layers(console, build)
    kinds = Counter(layer.kind for layer in build.layers)
    on = "every one that the library knows"
    if record.compute_capabilities:
        on = f"compute capability {', '.join(record.compute_capabilities)}"
    rows = {
        "network": build.ports,
        "batch": f"{record.batch.min} to {record.batch.max}, fastest at {record.batch.opt}",
        "precision": build.manifest.model.precision,
        "layers": f"{record.layers}: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()),
        "computing on": ", ".join(f"{precision}: {count}" for precision, count in record.precisions.items()),
        "for GPUs": on + (f" (built on {record.gpu})" if record.gpu else ""),
        "built with": f"{record.library} {record.version} in {build.seconds:.1f} s",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    console.print(f"{build.path} ({build.plan_bytes / 1e6:.1f} MB) and {manifest_path(build.path)}", soft_wrap=True)


def _print_layers(console: Console, build: Build) -> None:
    table = Table("layer", "kind", "computes on")
    for layer in build.layers:
        table.add_row(layer.name, layer.kind, layer.precision)
    console.print(table)
