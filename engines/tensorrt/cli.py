"""`mlzsl-build`: parse, build, print."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from mlzsl.cli.command import command
from mlzsl.cli.errors import UsageError
from mlzsl.cli.options import json_option, model_file, quiet_option, refuse_unused
from mlzsl.engines.artifact.plan_manifest import DEFAULT_LEVEL, HARDWARE, BatchProfile, Hardware, manifest_path
from mlzsl.engines.tensorrt.build import DEFAULT_CACHE, Build, build_plan
from mlzsl.engines.tensorrt.options import DEFAULT_BATCH, BuildOptions


@command("mlzsl-build")
@model_file
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The plan to write.  [default: MODEL's name with .plan]",
)
@click.option("--rtx", is_flag=True, help="Build with TensorRT-RTX: needs no GPU, for GPUs of the RTX class.")
@click.option(
    "--batch",
    default=str(DEFAULT_BATCH),
    metavar="MIN,OPT,MAX",
    help="Batch sizes that the plan takes; fastest at OPT. N alone means 1,N,N.",
)
@click.option(
    "--compute-capability",
    "compute_capabilities",
    multiple=True,
    metavar="X.Y",
    help="With --rtx, a GPU to build for, such as 8.9; may be repeated.  [default: all that it supports]",
)
@click.option(
    "--optimization-level",
    default=DEFAULT_LEVEL,
    type=click.IntRange(0, 5),
    help="A higher level builds longer and may run faster.",
)
@click.option(
    "--workspace", "workspace_mib", type=click.IntRange(1), metavar="MIB", help="Limit of a layer's workspace memory."
)
@click.option("--version-compatible", is_flag=True, help="Let later versions of TensorRT load it too; may be slower.")
@click.option("--hardware", default=HARDWARE[0], type=click.Choice(HARDWARE), help="The GPUs that may run the plan.")
@click.option("--strip-weights", is_flag=True, help="Leave the weights out; the plan then needs MODEL beside it.")
@click.option(
    "--timing-cache",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help=f"Folder of TensorRT's kernel times, a file for each GPU and version.  [default: {DEFAULT_CACHE}]",
)
@click.option("--layers", is_flag=True, help="Print every layer of the plan.")
@quiet_option
@json_option
def main(
    model: Path,
    output: Path | None,
    batch: str,
    layers: bool,
    quiet: bool,
    as_json: bool,
    hardware: Hardware,
    **options: Any,
) -> None:
    """Compile the model file MODEL into a TensorRT plan of the same precision.

    Writes model.plan, which NVIDIA's own tools load, and model.plan.json, its manifest: keep the two together. TensorRT
    builds on the GPU that runs the plan. TensorRT-RTX (--rtx) builds anywhere, for GeForce and RTX GPUs.

    \b
    Examples:
      mlzsl-build --rtx
      mlzsl-build model.int8.onnx --batch 1,32,128
      mlzsl-build model.onnx --rtx --compute-capability 8.9 --compute-capability 12.0
      mlzsl-infer photos/ --engine model.plan --device cuda
    """
    if quiet or as_json:
        refuse_unused("with --quiet" if quiet else "with --json, which lists every layer", "layers")
    build = build_plan(
        model, output, BuildOptions(batch=_profile(batch), hardware=hardware, **options), quiet=quiet or as_json
    )
    if as_json:
        report = {
            "plan": str(build.path),
            "manifest": str(manifest_path(build.path)),
            "plan_bytes": build.plan_bytes,
            "seconds": round(build.seconds, 3),
            "ports": build.ports,
            "precision": build.manifest.model.precision,
            "build": msgspec.to_builtins(build.manifest.build),
            "layers": [asdict(layer) for layer in build.layers],
        }
        click.echo(json.dumps(report, indent=2))
    elif not quiet:
        _print(build, layers)


def _profile(text: str) -> BatchProfile:
    """`MIN,OPT,MAX`, or `N` for 1,N,N."""
    try:
        counts = [int(count) for count in text.split(",")]
    except ValueError:
        counts = []
    if len(counts) not in (1, 3):
        raise UsageError(f"--batch {text}: expected three numbers MIN,OPT,MAX such as {DEFAULT_BATCH}, or one.")
    return BatchProfile(*(counts if len(counts) == 3 else (1, *counts * 2)))


def _print(build: Build, layers: bool) -> None:
    console = Console(highlight=False)
    record = build.manifest.build
    if layers:
        table = Table("layer", "kind", "computes in")
        for layer in build.layers:
            table.add_row(layer.name, layer.kind, layer.precision)
        console.print(table)
    kinds = Counter(layer.kind for layer in build.layers)
    gpus = f"compute capability {', '.join(record.compute_capabilities)}" if record.compute_capabilities else "all"
    rows = {
        "network": build.ports,
        "batch": f"{record.batch.min} to {record.batch.max}, fastest at {record.batch.opt}",
        "precision": build.manifest.model.precision,
        "layers": f"{record.layers}: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()),
        "layers by type": ", ".join(f"{precision}: {count}" for precision, count in record.precisions.items()),
        "GPUs": gpus + (f" (built on {record.gpu})" if record.gpu else ""),
        "built with": f"{record.library} {record.version} in {build.seconds:.1f} s",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    console.print(f"{build.path} ({build.plan_bytes / 1e6:.1f} MB) and {manifest_path(build.path)}", soft_wrap=True)
