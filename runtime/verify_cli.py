"""`mlzsl-verify`: parse, check, print."""

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from mlzsl.engines.engine import BACKENDS, DEVICES, open_engine
from mlzsl.runtime.sources import find_images
from mlzsl.runtime.verify import TOLERANCE, Check, Verification, verify_against, verify_golden
from mlzsl.shell.command import command
from mlzsl.shell.errors import FailureError, UsageError

LIMITS = ", ".join(f"{limit:g} for {precision}" for precision, limit in TOLERANCE.items())


@command("mlzsl-verify")
@click.argument("model", default="model.onnx", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="CHECKPOINT",
    help="Also compare with the PyTorch system of this checkpoint, on --photos; needs the extra train.",
)
@click.option("--photos", multiple=True, metavar="PHOTOS", help="Files, folders or patterns to compare on.")
@click.option(
    "--embeddings",
    metavar="taxonomy|FILE",
    help="Where the embeddings of the training are now, with --against.  [default: where they were]",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    metavar="D",
    help=f"Largest difference of a score from PyTorch's, and between batches.  [default: {LIMITS}]",
)
@click.option("--device", default="cpu", type=click.Choice(DEVICES), help="What to run on.")
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    help="What runs the network.  [default: openvino on cpu, onnxruntime on cuda]",
)
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16"]), help="Verify this precision.  [default: the model file's]"
)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads at most.  [default: every core]")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors; the exit code tells.")
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def main(
    model: Path,
    against: Path | None,
    photos: tuple[str, ...],
    embeddings: str | None,
    tolerance: float | None,
    device: str,
    backend: str | None,
    precision: str | None,
    threads: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Check that an engine gives the scores that MODEL promises; exit code 1 if it does not.

    The model file carries a few pictures with the scores that PyTorch gave them, so this needs neither PyTorch nor
    photos. Each picture is also scored alone, in other batches and in other places, where its scores must stay.

    \b
    Examples:
      mlzsl-verify
      mlzsl-verify my_tagger.onnx --backend onnxruntime
      mlzsl-verify model.onnx --precision bf16
      mlzsl-verify model.onnx --against checkpoint.safetensors --photos images/
    """
    if against is not None and not photos:
        raise UsageError(f"--against {against}: name photos to compare on, with --photos images/.")
    if photos and against is None:
        raise UsageError("--photos: comparing on photos needs a checkpoint; name it with --against.")
    with closing(open_engine(model, device, backend, precision, threads)) as engine:
        checks, unreadable = verify_golden(engine, model, tolerance), 0
        if against is not None:
            paths = find_images(photos)
            check, unreadable = verify_against(
                engine, model, against, paths, embeddings, tolerance, threads=threads, quiet=quiet or as_json
            )
            checks.append(check)
        verification = Verification(model, engine.running, tuple(checks), unreadable)
    if as_json:
        click.echo(json.dumps(_as_json(verification), indent=2))
    elif not quiet:
        _print(verification)
    failed = [check for check in verification.checks if not check.passed]
    if failed:
        worst = failed[0]
        raise FailureError(
            f"{model}: beyond tolerance: {worst.name}: differs by {worst.difference:.1e} "
            f"where {worst.allowed:.0e} is allowed, on {engine.running}."
        )


def _as_json(verification: Verification) -> dict[str, object]:
    return {
        "model": str(verification.model),
        "running": asdict(verification.running),
        "passed": verification.passed,
        "checks": [_check_as_json(check) for check in verification.checks],
        "unreadable": verification.unreadable,
    }


def _check_as_json(check: Check) -> dict[str, object]:
    return {
        "name": check.name,
        "difference": check.difference,
        "allowed": check.allowed,
        "agreement": None if check.agreement is None else check.agreement.to_json(),
        "passed": check.passed,
    }


def _print(verification: Verification) -> None:
    console = Console(highlight=False)
    table = Table(title=f"{verification.model} on {verification.running}", title_justify="left")
    table.add_column()
    for check in verification.checks:
        table.add_column(check.name, justify="right")
    for row in zip(ROWS, *map(_column, verification.checks), strict=True):
        table.add_row(*row)
    console.print(table)
    if verification.unreadable:
        console.print(f"{verification.unreadable:,} photos could not be read and were left out.")


ROWS = ("photos", "largest difference", "allowed", "mean difference", "tags that flip", "same best labels", "")


def _column(check: Check) -> list[str]:
    """One check from top to bottom, as ROWS names it."""
    verdict = "[green]ok[/]" if check.passed else "[red]beyond[/]"
    limits = [f"{check.difference:.1e}", f"{check.allowed:.0e}"]
    found = check.agreement
    if found is None:
        return ["", *limits, "", "", "", verdict]
    flipped = f"{found.flipped:,} of {found.photos * found.labels:,}"
    same_top = f"{found.same_top / found.photos:.1%} (top {found.top_k})"
    return [f"{found.photos:,}", *limits, f"{found.mean:.1e}", flipped, same_top, verdict]
