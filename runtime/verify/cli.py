"""`mlzsl-verify`: check and certify an engine."""

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from mlzsl.cli.command import command
from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.options import json_option, model_file, quiet_option, refuse_unused
from mlzsl.cli.progress import log
from mlzsl.engines.agreement import TOP_K
from mlzsl.engines.artifact.engine_file import certify as write_certificate
from mlzsl.engines.opening import open_engine
from mlzsl.engines.tolerances import tolerances_for
from mlzsl.imaging.finding import find_images
from mlzsl.imaging.labelled_folder import load_folder
from mlzsl.runtime.engine_options import difference_options, engine_options, tolerance_option
from mlzsl.runtime.labelled import match_labels
from mlzsl.runtime.report import print_json, print_parts
from mlzsl.runtime.verify.reference import check_against, open_reference
from mlzsl.runtime.verify.report import as_json as verification_as_json
from mlzsl.runtime.verify.report import failure, report
from mlzsl.runtime.verify.verify import verify, verify_on_photos


@command("mlzsl-verify")
@model_file
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The reference on --photos: the fp32 .onnx file that MODEL was made from, or the checkpoint that it was "
    "exported from (needs the extra train).",
)
@click.option("--photos", multiple=True, metavar="PHOTOS", help="Files, folders or patterns to compare on.")
@click.option(
    "--labels-json",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The labels of the one folder of --photos, {name: [label, ...]}: measures mAP and miAP as well.",
)
@click.option(
    "--embeddings",
    metavar="taxonomy|FILE",
    help="With a checkpoint, where the embeddings of its training are now.  [default: where they were]",
)
@click.option("--certify", is_flag=True, help="Write the result into MODEL's manifest as the engine's certificate.")
@click.option("--top-k", default=TOP_K, type=click.IntRange(1), metavar="K", help="How many best labels to compare.")
@difference_options
@tolerance_option("--min-top-agreement", "top_agreement", "Best K labels that agree, on --photos.")
@tolerance_option("--max-drop", "accuracy_drop", "mAP lost, of seen and of unseen labels.", "POINTS")
@engine_options
@quiet_option
@json_option
def main(
    model: Path,
    against: Path | None,
    photos: tuple[str, ...],
    labels_json: Path | None,
    embeddings: str | None,
    certify: bool,
    top_k: int,
    device: str,
    backend: str | None,
    precision: str | None,
    threads: int | None,
    quiet: bool,
    as_json: bool,
    **limits: Any,
) -> None:
    """Check that an engine gives the scores that MODEL promises; the exit code is 1 if it does not.

    The model file has a golden sample, a few images with PyTorch's scores, so this needs neither PyTorch nor photos.
    Scores must not depend on batch size, position, neighbours, run or load. With --against, the engine is compared on
    your own photos as well.

    \b
    Examples:
      mlzsl-verify
      mlzsl-verify my_tagger.onnx --backend onnxruntime
      mlzsl-verify model.onnx --against checkpoint.safetensors --photos images/
      mlzsl-verify model.int8.onnx --against model.onnx --photos images/ --certify
      mlzsl-verify model.onnx --precision bf16 --against model.onnx --photos coco/ --labels-json coco/labels.json
    """
    silent = quiet or as_json
    if against is None:
        refuse_unused("without --against", "photos", "labels_json", "embeddings", "top_agreement")
    elif not photos:
        raise UsageError(f"--against {against}: needs photos to compare on; name them with --photos images/.")
    else:
        check_against(against, model)
        if against.suffix.lower() == ".onnx":
            refuse_unused("with a model file as --against", "embeddings")
    if labels_json is None:
        refuse_unused("without --labels-json", "accuracy_drop")
    elif len(photos) != 1:
        raise UsageError(f"--labels-json {labels_json}: needs one folder of photos, found {len(photos)} --photos.")
    labelled = None if labels_json is None else load_folder(Path(photos[0]), labels_json, silent)
    paths = find_images(photos) if photos and labelled is None else iter(())
    with closing(open_engine(model, device, backend, precision, threads)) as engine:
        tolerances = tolerances_for(engine.execution.precision, **limits)
        if against is None:
            verification = verify(engine, model, tolerances, top_k)
        else:
            chosen = paths if labelled is None else match_labels(labelled, engine.manifest, silent)
            with open_reference(against, model, engine.manifest, embeddings, threads) as reference:
                verification = verify_on_photos(
                    engine, model, reference, chosen, tolerances, top_k, threads=threads, quiet=silent
                )
    certified = certify and verification.passed
    if certified:
        write_certificate(model, verification.certificate())
    if as_json:
        print_json(verification_as_json(verification) | {"certified": certified})
    elif not quiet:
        print_parts(report(verification))
    if not verification.passed:
        raise FailureError(failure(verification) + ("; no certificate was written." if certify else "."))
    if certify:
        log(f"certified {model} on {verification.execution}", silent)
