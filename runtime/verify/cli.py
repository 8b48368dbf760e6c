"""`mlzsl-verify`: parse, check, print."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from mlzsl.cli.command import command
from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.options import FiniteFloat, quiet_option
from mlzsl.cli.progress import log
from mlzsl.engines.agreement import TOP_K
from mlzsl.engines.artifact.engine_file import certify as write_certificate
from mlzsl.engines.artifact.engine_file import set_thresholds
from mlzsl.engines.engine import Engine
from mlzsl.engines.opening import open_engine
from mlzsl.engines.tolerances import TOLERANCES, tolerances_for
from mlzsl.imaging.finding import find_images
from mlzsl.runtime.engine_options import engine_options
from mlzsl.runtime.labelled import LabelledPhotos, load_labelled
from mlzsl.runtime.thresholds.learning import FEWEST_PHOTOS, LearnedThresholds, learn_thresholds
from mlzsl.runtime.thresholds.operating_point import parse_goal
from mlzsl.runtime.thresholds.report import as_json as thresholds_as_json
from mlzsl.runtime.thresholds.report import print_thresholds
from mlzsl.runtime.verify.reference import open_reference
from mlzsl.runtime.verify.report import as_json, describe, print_report
from mlzsl.runtime.verify.verify import Verification, verify, verify_on_photos


def _defaults(limit: str, unit: str = "") -> str:
    """The defaults of a limit by precision, for the help."""
    return ", ".join(f"{getattr(limits, limit):g}{unit} {precision}" for precision, limits in TOLERANCES.items())


@command("mlzsl-verify")
@click.argument("model", default="model.onnx", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also compare on --photos: with the fp32 .onnx file that MODEL was made from, or with the PyTorch system of "
    "the checkpoint (needs the extra train).",
)
@click.option("--photos", multiple=True, metavar="PHOTOS", help="Files, folders or patterns to compare on.")
@click.option(
    "--labels-json",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The true labels of the one folder of --photos, {name: [label, ...]}: measures mAP and miAP as well.  "
    "[default with --set-thresholds: the folder's labels.json]",
)
@click.option(
    "--embeddings",
    metavar="taxonomy|FILE",
    help="Where the embeddings of the training are now, with a checkpoint.  [default: where they were]",
)
@click.option("--certify", is_flag=True, help="Write the result into MODEL's manifest as the engine's certificate.")
@click.option(
    "--set-thresholds",
    "goal",
    metavar="GOAL",
    help="Choose each label's threshold on the labelled --photos and write them into MODEL's manifest: best-f1, "
    "precision=P or recall=R. Those of unseen labels are predicted.",
)
@click.option(
    "--min-photos",
    default=FEWEST_PHOTOS,
    type=click.IntRange(1),
    metavar="N",
    help="With --set-thresholds, seen labels on fewer photos are predicted as well.",
)
@click.option("--top-k", default=TOP_K, type=click.IntRange(1), metavar="K", help="How many best labels to compare.")
@click.option(
    "--tolerance",
    "largest",
    type=FiniteFloat(0, 1),
    metavar="D",
    help="Largest difference of a score, from the reference and between batches.  "
    f"[default: {_defaults('largest')}; less between batches]",
)
@click.option(
    "--mean-tolerance",
    "mean",
    type=FiniteFloat(0, 1),
    metavar="D",
    help=f"Mean difference of a score.  [default: {_defaults('mean')}]",
)
@click.option(
    "--max-flips",
    "flipped",
    type=FiniteFloat(0, 100),
    metavar="PERCENT",
    help=f"Tags given by one and not by the other, of all decisions.  [default: {_defaults('flipped')}]",
)
@click.option(
    "--min-top-agreement",
    "top_agreement",
    type=FiniteFloat(0, 100),
    metavar="PERCENT",
    help=f"Of the best K labels, those that agree.  [default: {_defaults('top_agreement')}]",
)
@click.option(
    "--max-drop",
    "accuracy_drop",
    type=FiniteFloat(0, 100),
    metavar="POINTS",
    help=f"mAP lost, of seen and of unseen labels, with --labels-json.  [default: {_defaults('accuracy_drop')}]",
)
@engine_options
@quiet_option
@click.option("--json", "json_wanted", is_flag=True, help="Print every number as JSON.")
def main(
    model: Path,
    against: Path | None,
    photos: tuple[str, ...],
    labels_json: Path | None,
    embeddings: str | None,
    certify: bool,
    goal: str | None,
    min_photos: int,
    top_k: int,
    device: str,
    backend: str | None,
    precision: str | None,
    threads: int | None,
    quiet: bool,
    json_wanted: bool,
    **limits: Any,
) -> None:
    """Check that an engine gives the scores that MODEL promises; exit code 1 if it does not.

    The model file carries a few pictures with the scores that PyTorch gave them, so this needs neither PyTorch nor
    photos. Each picture is also scored alone, in other batches and places, and again and again, where its scores must
    stay. How much of its accuracy an engine keeps shows on photos of your own, with --against.

    \b
    Examples:
      mlzsl-verify
      mlzsl-verify my_tagger.onnx --backend onnxruntime
      mlzsl-verify model.onnx --against checkpoint.safetensors --photos images/
      mlzsl-verify model.int8.onnx --against model.onnx --photos images/ --certify
      mlzsl-verify model.onnx --precision bf16 --against model.onnx --photos coco/ --labels-json coco/labels.json
      mlzsl-verify model.onnx --photos coco/ --set-thresholds best-f1
    """
    if goal is not None:
        _check_thresholds(goal, photos, against, certify)
    if against is not None and not photos:
        raise UsageError(f"--against {against}: name photos to compare on, with --photos images/.")
    if photos and against is None and goal is None:
        raise UsageError("--photos: comparing on photos needs a reference; name it with --against.")
    if labels_json is not None and len(photos) != 1:
        raise UsageError(f"--labels-json {labels_json}: belongs to one folder of photos; name it with --photos.")
    silent = quiet or json_wanted
    learned: LearnedThresholds | None = None
    with closing(open_engine(model, device, backend, precision, threads)) as engine:
        asked = tolerances_for(engine.execution.precision, **limits)
        if against is None:
            verification = verify(engine, model, asked, top_k)
            if goal is not None and verification.passed:
                labelled = load_labelled(Path(photos[0]), labels_json, engine.manifest, silent)
                learned = learn_thresholds(
                    engine, labelled, parse_goal(goal), min_photos, threads=threads, quiet=silent
                )
        else:
            chosen = _photos(photos, labels_json, engine, silent)
            with open_reference(against, model, engine.manifest, embeddings, threads) as reference:
                verification = verify_on_photos(
                    engine, model, reference, chosen, asked, top_k, threads=threads, quiet=silent
                )
    if certify and verification.passed:
        write_certificate(model, verification.certificate())
    if learned is not None:
        set_thresholds(model, learned.thresholds, verification.manifest.network_sha256)
    if json_wanted:
        written = {
            "certified": certify and verification.passed,
            "thresholds": None if learned is None else thresholds_as_json(learned),
        }
        click.echo(json.dumps(as_json(verification) | written, indent=2))
    elif not quiet:
        print_report(verification, Console(highlight=False))
        if learned is not None:
            print_thresholds(learned, Console(highlight=False))
    if not verification.passed:
        raise FailureError(
            _exceeded(verification, "certificate was" if certify else "thresholds were" if goal else None)
        )
    if learned is not None:
        dropped = "; certify it again" if verification.manifest.certificates else ""
        log(f"wrote the thresholds of {len(learned.labels)} labels into {model}{dropped}", silent)
    if certify:
        log(f"certified {model} on {verification.execution}", silent)


def _check_thresholds(goal: str, photos: tuple[str, ...], against: Path | None, certify: bool) -> None:
    parse_goal(goal)
    if len(photos) != 1:
        raise UsageError(f"--set-thresholds {goal}: needs one folder of labelled photos; name it with --photos.")
    if against is not None or certify:
        flag = "--certify" if certify else "--against"
        raise UsageError(
            f"--set-thresholds {goal}: thresholds decide which tags count as flipped, so {flag} comes after them; set "
            "them first, then verify again."
        )


def _photos(
    photos: tuple[str, ...], labels_json: Path | None, engine: Engine, quiet: bool
) -> Iterator[str] | LabelledPhotos:
    if labels_json is None:
        return find_images(photos)
    return load_labelled(Path(photos[0]), labels_json, engine.manifest, quiet)


def _exceeded(verification: Verification, unwritten: str | None) -> str:
    """What is wrong with an engine, as one sentence."""
    check, worst = verification.exceeded[0]
    more = len(verification.exceeded) - 1
    return (
        f"{verification.model}: beyond its limits: {check.name}: {describe(worst)}"
        + (f", and {more} more" if more else "")
        + f", on {verification.execution}"
        + (f"; no {unwritten} written." if unwritten else ".")
    )
