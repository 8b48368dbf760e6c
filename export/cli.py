"""`mlzsl-export`: parse, export, print."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click
from rich.console import Console

from mlzsl.cli.command import command
from mlzsl.cli.errors import UsageError
from mlzsl.cli.options import AliasedOption, json_option, quiet_option, refuse_unused, skip_unlinked_option
from mlzsl.cli.progress import log
from mlzsl.train.options import backbone_weights_option, fit_option, image_size_option

CHECKPOINT = Path("checkpoint.safetensors")


@command("mlzsl-export")
@click.argument("checkpoint", required=False, type=click.Path(path_type=Path))
@click.option(
    "--model",
    metavar="NAME",
    help="A model that needs no training, instead of a checkpoint: training-free, or zero-shot (of a CLIP "
    "backbone).  [default: training-free where there is no checkpoint.safetensors]",
)
@click.option(
    "--labels",
    metavar="NAME|FILE",
    help="The labels to tag with, seen in training or not: coco80, nuswide81, voc20, imagenet1k, "
    "or a text file with a label per line.  [default: those of the training, or coco80]",
)
@skip_unlinked_option
@click.option(
    "--embeddings",
    metavar="NAME|FILE",
    help="The embeddings of the training, if their file was moved, or those of --model.  [default: those in the "
    "checkpoint, or minilm; the backbone's own text tower for zero-shot]",
)
@click.option(
    "--overlap",
    type=click.Choice(["keep", "leave-out"]),
    help="External classes that are labels: keep what the backbone knows of them, or leave them out.  [default: as in "
    "training; keep for training-free and zero-shot]",
)
@click.option(
    "--backbone",
    metavar="NAME",
    help="Of --model: resnet18, resnet34, resnet50, resnet101, efficientnet-lite0, -lite1, -lite2, timm:NAME or "
    "clip:NAME.  [default: efficientnet-lite0]",
)
@backbone_weights_option
@image_size_option
@fit_option
@click.option(
    "-o",
    "--output",
    default=Path("model.onnx"),
    type=click.Path(path_type=Path, dir_okay=False),
    help="The model file to write.",
)
@click.option(
    "--unfolded",
    cls=AliasedOption,
    aliases=("--as-written",),
    is_flag=True,
    help="Export the head with the paper's formulas as written, for comparison.",
)
@quiet_option
@json_option
def main(
    checkpoint: Path | None,
    model: str | None,
    labels: str | None,
    skip_unlinked: bool,
    embeddings: str | None,
    overlap: Literal["keep", "leave-out"] | None,
    backbone: str | None,
    backbone_weights: Path | None,
    image_size: int | None,
    fit: Literal["squash", "crop"] | None,
    output: Path,
    unfolded: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Export a CHECKPOINT for a label set as one checked ONNX file.

    The file takes uint8 images and returns scores; class graph, normalization and all tensors of the label set are
    constants. It is written only if ONNX Runtime reproduces the PyTorch scores. Without a checkpoint the model is
    training-free: an ImageNet backbone whose classes are carried over to your labels by the similarity of their names.

    \b
    Examples:
      mlzsl-export --model training-free --labels my_labels.txt
      mlzsl-export --labels coco80
      mlzsl-export --labels my_labels.txt --output my_tagger.onnx
      mlzsl-export run1.safetensors --labels voc20 --embeddings glove.6B.300d.txt
    """
    # torch is heavy: --help must not wait for it
    from mlzsl.export.exporter import export_model, export_untrained
    from mlzsl.graph.labels.sets import load_label_set

    quiet = quiet or as_json
    if checkpoint and model:
        raise UsageError(f"--model {model}: has no effect with the checkpoint {checkpoint}; leave one of them out.")
    if checkpoint is None and model is None and CHECKPOINT.exists():
        checkpoint = CHECKPOINT
    if checkpoint and labels is None:
        refuse_unused("without --labels FILE", "skip_unlinked")
    name = labels or (None if checkpoint else "coco80")
    label_set = load_label_set(name, skip_unlinked, quiet, needed_by=None) if name else None
    if checkpoint:
        refuse_unused("with a checkpoint, which has its backbone", "backbone", "backbone_weights", "image_size", "fit")
        log(f"model: {checkpoint}", quiet)
        export = export_model(checkpoint, label_set, output, embeddings, not unfolded, overlap)
    else:
        assert label_set is not None
        export = export_untrained(
            model or "training-free",
            label_set,
            output,
            backbone=backbone or "efficientnet-lite0",
            backbone_weights=backbone_weights,
            image_size=image_size,
            fit=fit or "squash",
            embeddings=embeddings,
            folded=not unfolded,
            overlap=overlap,
            quiet=quiet,
        )
    if as_json:
        sheet = asdict(export.cost) | {"path": str(export.path), "seconds": round(export.seconds, 2)}
        click.echo(json.dumps(sheet, indent=2))
    elif not quiet:
        if export.overlap:
            click.echo(export.overlap)
        Console().print(export.cost.table())
        count, seen = len(export.graph.targets), int(export.graph.seen.sum())
        click.echo(
            f"wrote {export.path} in {export.seconds:.1f} s: {count} labels, {seen} seen in training, "
            f"{count - seen} unseen; next: mlzsl-infer images/ --engine {export.path}"
        )
