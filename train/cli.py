"""The command `mlzsl-train`."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from mlzsl.cli.command import command
from mlzsl.cli.options import FiniteFloat, json_option, model_option, quiet_option
from mlzsl.train.options import (
    backbone_options,
    data_options,
    hidden_dim_option,
    job_from_flags,
    layers_option,
    threshold_option,
    training_options,
)


@command("mlzsl-train")
@data_options
@model_option(
    "The model to train: visual-semantic, Fast0Tag, SKG, RGCN, RGCN-XL, RGCN-PosVAE, training-free, evidence, or "
    "zero-shot (of a CLIP backbone).  [default: RGCN-PosVAE for scenes, else evidence]",
)
@backbone_options
@threshold_option
@click.option(
    "--overlap",
    type=click.Choice(["keep", "leave-out"]),
    help="External classes that are labels: keep them, or leave them out, as the paper does.  [default: keep for "
    "training-free, evidence and zero-shot, else leave-out]",
)
@click.option(
    "--external-classes",
    type=click.IntRange(1),
    metavar="N",
    help="At most N external classes, those nearest to the labels.  [default: 1000 for models with a graph, else all]",
)
@hidden_dim_option
@layers_option
@click.option("--steps", type=click.IntRange(1, 32), help="Propagation steps of SKG.  [default: 5]")
@click.option(
    "--vae-weight", type=FiniteFloat(0, min_open=True), help="λ of the joint loss of RGCN-PosVAE.  [default: 1]"
)
@training_options
@click.option("--device", default="cpu", type=click.Choice(["cpu", "cuda"]), help="Where to train the model.")
@click.option(
    "--precision",
    default="fp32",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    help="Precision of matrix products; parameters stay fp32. fp16 needs a GPU.",
)
@click.option(
    "-o",
    "--output",
    default=Path("checkpoint.safetensors"),
    type=click.Path(path_type=Path, dir_okay=False),
    help="The checkpoint to write.",
)
@click.option("--resume", is_flag=True, help="Resume an interrupted training, or add epochs with a larger --epochs.")
@quiet_option
@json_option
def main(model: str | None, quiet: bool, as_json: bool, **flags: Any) -> None:
    """Train a multi-label zero-shot tagger and write its checkpoint.

    Without options it generates a labelled photo set, pretrains a small backbone on synthetic photos, trains the model
    and writes checkpoint.safetensors: a few minutes on two cores, without a download. On photos (--data) the default is
    evidence on EfficientNet-Lite0, which takes seconds once features are extracted. training-free reads no photos: with
    --data it is only evaluated on them.

    \b
    Examples:
      mlzsl-train
      mlzsl-train --data coco:/data/coco --embeddings glove.6B.300d.txt
      mlzsl-train --data photos/ --labels coco80 --backbone resnet50 --embeddings glove.6B.300d.txt
      mlzsl-train --data photos/ --labels my_labels.txt --unseen my_unseen.txt --backbone-weights r101.safetensors
      mlzsl-train --resume --epochs 40
      mlzsl-train --data coco:/data/coco --device cuda --precision bf16
      torchrun --nproc-per-node 2 --no-python mlzsl-train --data coco:/data/coco --device cuda
    """
    # torch is heavy: --help must not wait for it
    from mlzsl.train.models.registry import MODELS
    from mlzsl.train.training.distributed import RemoteRankError, launched_processes
    from mlzsl.train.training.pipeline import run
    from mlzsl.train.training.untrained import write_untrained

    data = flags["data"]
    model = model or ("RGCN-PosVAE" if data in (None, "scenes") else "evidence")
    without_photos = data is None and model in MODELS and not MODELS[model].fitted
    job = job_from_flags(flags | {"model": model}, [model], without_photos)
    if without_photos:
        output = write_untrained(job, quiet or as_json)
        if as_json:
            click.echo(json.dumps({"checkpoint": str(output)}))
        elif not quiet:
            click.echo(f"wrote {output}, for which no photos were read; next: mlzsl-export {output}")
        return
    try:
        with launched_processes(job.device) as processes:
            result = run(job, quiet=quiet or as_json, processes=processes)
    except RemoteRankError as error:
        sys.exit(error.exit_code)
    if not processes.is_main:
        return
    record = result.record
    if as_json:
        click.echo(json.dumps({"checkpoint": str(result.checkpoint)} | record, indent=2))
    elif not quiet:
        columns = {"mAP": "mAP", "miAP": "miAP", "chance mAP": "chance_mAP", "classes": "classes", "photos": "images"}
        _print_table("Metrics on the held-out photos", "labels", columns, record["metrics"].items())
        columns = {"k": "k", "precision": "precision", "recall": "recall", "F1": "F1", "photos": "images"}
        top = [(setting, at_k) for setting, row in record["top"].items() for at_k in row]
        _print_table("The k best labels of the held-out photos", "zero-shot", columns, top)
        click.echo(f"wrote {result.checkpoint}; next: mlzsl-export --labels {record['data']['labels']}")


def _print_table(title: str, first: str, columns: dict[str, str], rows: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Print named rows; `columns` maps headings to the keys of their values."""
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for heading in columns:
        table.add_column(heading, justify="right")
    for name, values in rows:
        cells = [values[key] for key in columns.values()]
        table.add_row(
            name, *("–" if each is None else f"{each:.3f}" if type(each) is float else f"{each}" for each in cells)
        )
    Console().print(table)
