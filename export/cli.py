"""`mlzsl-export`: parse, export, print."""

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from mlzsl.cli.command import command
from mlzsl.cli.options import AliasedOption, json_option, quiet_option, refuse_unused, skip_unlinked_option


@command("mlzsl-export")
@click.argument("checkpoint", default="checkpoint.safetensors", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    metavar="NAME|FILE",
    help="The labels to tag with, seen in training or not: coco80, nuswide81, voc20, imagenet1k, "
    "or a text file with a label per line.  [default: those of the training]",
)
@skip_unlinked_option
@click.option(
    "--embeddings",
    metavar="NAME|FILE",
    help="The embeddings of the training, if their file was moved.  [default: those in the checkpoint]",
)
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
    checkpoint: Path,
    labels: str | None,
    skip_unlinked: bool,
    embeddings: str | None,
    output: Path,
    unfolded: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Export a CHECKPOINT for a label set as one checked ONNX file.

    The file takes uint8 images and returns scores; class graph, normalization and all tensors of the label set are
    constants. It is written only if ONNX Runtime reproduces the PyTorch scores.

    \b
    Examples:
      mlzsl-export --labels coco80
      mlzsl-export --labels my_labels.txt --output my_tagger.onnx
      mlzsl-export run1.safetensors --labels voc20 --embeddings glove.6B.300d.txt
    """
    from mlzsl.export.exporter import export_model  # torch is heavy: --help must not wait for it
    from mlzsl.graph.labels.sets import load_label_set

    if labels is None:
        refuse_unused("without --labels FILE", "skip_unlinked")
    label_set = load_label_set(labels, skip_unlinked, quiet or as_json, needed_by=None) if labels else None
    export = export_model(checkpoint, label_set, output, embeddings=embeddings, folded=not unfolded)
    if as_json:
        sheet = asdict(export.cost) | {"path": str(export.path), "seconds": round(export.seconds, 2)}
        click.echo(json.dumps(sheet, indent=2))
    elif not quiet:
        Console().print(export.cost.table())
        count, seen = len(export.graph.targets), int(export.graph.seen.sum())
        click.echo(
            f"wrote {export.path} in {export.seconds:.1f} s: {count} labels, {seen} seen in training, "
            f"{count - seen} unseen; next: mlzsl-infer images/ --engine {export.path}"
        )
