"""`mlzsl-train`: parse, train, print."""

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from mlzsl.cli.command import command
from mlzsl.cli.options import FiniteFloat, json_option, model_option, quiet_option


@command("mlzsl-train")
@click.option(
    "--data",
    default="scenes",
    metavar="scenes|FOLDER|FORMAT:PATH",
    help="The generated set, a folder of images with a labels.json (file name to label list), or a dataset as its "
    "makers ship it: coco:PATH, nuswide:PATH, voc:PATH, openimages:PATH.",
)
@click.option(
    "--labels",
    metavar="NAME|FILE",
    help="The label set: coco80, nuswide81, voc20, imagenet1k, or a text file with a label a line.  "
    "[default: the data's own; coco80 for scenes and folders]",
)
@click.option(
    "--unseen",
    metavar="SPLIT|FILE|none",
    help="The labels that training must not see.  [default: the paper's 16 of coco80 and of nuswide81]",
)
@model_option(
    "The model to train: visual-semantic, Fast0Tag, SKG, RGCN, RGCN-XL, RGCN-PosVAE, training-free, or evidence.",
    default="RGCN-PosVAE",
)
@click.option(
    "--backbone",
    type=click.Choice(["small", "resnet18", "resnet34", "resnet50", "resnet101"]),
    help="The frozen feature extractor.  [default: small for scenes, resnet101 for a folder]",
)
@click.option(
    "--backbone-weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Local weights of the backbone: .safetensors, or .pth of tensors.  [default: torchvision's, downloaded once]",
)
@click.option(
    "--image-size",
    type=click.IntRange(32, 1024),
    help="Side of the picture that the backbone sees.  [default: 224; 96 for small]",
)
@click.option(
    "--embeddings",
    default="taxonomy",
    metavar="taxonomy|FILE",
    help="Class embeddings: the embedded default, or a text file in GloVe's format.",
)
@click.option(
    "--threshold",
    default=0.5,
    type=FiniteFloat(0, 1),
    help="WUP similarity above which two classes share an edge.",
)
@click.option(
    "--hidden-dim",
    type=click.IntRange(1, 8192),
    help="Width of node states, d_h, of SKG and the RGCN systems.  [default: 256]",
)
@click.option("--layers", type=click.IntRange(1, 16), help="Graph layers of the RGCN systems.  [default: 2]")
@click.option("--steps", type=click.IntRange(1, 32), help="Propagation steps of SKG.  [default: 5]")
@click.option(
    "--vae-weight",
    type=FiniteFloat(0, min_open=True),
    help="λ of the joint loss of RGCN-PosVAE.  [default: 1]",
)
@click.option("--epochs", default=9, type=click.IntRange(1), help="Passes over the photos.")
@click.option("--batch-size", default=32, type=click.IntRange(1), help="Photos a step.")
@click.option(
    "--learning-rate",
    default=5e-4,
    type=FiniteFloat(0, min_open=True),
    help="Adam's initial learning rate.",
)
@click.option(
    "--seed",
    default=42,
    type=click.IntRange(0, 2**31 - 1),
    help="Of parameters, order, noise and generated photos.",
)
@click.option(
    "--device",
    default="cpu",
    type=click.Choice(["cpu", "cuda"]),
    help="Where the system is trained: the CPU or an NVIDIA GPU.",
)
@click.option(
    "--precision",
    default="fp32",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    help="Of matrix products in training; parameters stay fp32. fp16 is for GPUs.",
)
@click.option(
    "--held-out",
    type=FiniteFloat(0, 1, min_open=True, max_open=True),
    help="Share of the photos kept for evaluation, for data without a split of its own.  [default: 0.2]",
)
@click.option(
    "--cache",
    default=Path("mlzsl-cache"),
    type=click.Path(path_type=Path),
    help="Folder for what can be made again: scenes, small backbone, features.",
)
@click.option(
    "-o",
    "--output",
    default=Path("checkpoint.safetensors"),
    type=click.Path(path_type=Path),
    help="The checkpoint to write.",
)
@click.option("--resume", is_flag=True, help="Go on with a training that was interrupted, or with more --epochs.")
@quiet_option
@json_option
def main(quiet: bool, as_json: bool, **flags: Any) -> None:
    """Train a multi-label zero-shot tagger and write its checkpoint.

    With no flags it generates a labelled photo set, pretrains a small backbone, trains on both and writes
    checkpoint.safetensors: a few minutes on two cores, nothing is downloaded.

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
    from mlzsl.train.training.distributed import RemoteRankError, launched_processes
    from mlzsl.train.training.job import Job
    from mlzsl.train.training.pipeline import run
    from mlzsl.train.training.trainer import TrainingConfig

    loop_flags = {name: flags.pop(name) for name in ("epochs", "batch_size", "learning_rate", "seed", "precision")}
    flags["backbone"] = flags["backbone"] or ("small" if flags["data"] == "scenes" else "resnet101")
    job = Job(training=TrainingConfig(**loop_flags), **flags)
    try:
        with launched_processes(job.device) as processes:
            outcome = run(job, quiet=quiet or as_json, processes=processes)
    except RemoteRankError as error:
        sys.exit(error.exit_code)
    if not processes.is_main:
        return
    if as_json:
        click.echo(json.dumps({"checkpoint": str(outcome.checkpoint)} | outcome.record, indent=2))
    elif not quiet:
        Console().print(_table(outcome.record["metrics"]))
        Console().print(_top_table(outcome.record["top"]))
        click.echo(f"wrote {outcome.checkpoint}; next: mlzsl-export --labels {outcome.record['data']['labels']}")


def _table(metrics: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="Held-out photos", title_justify="left")
    for heading in ("labels", "mAP", "miAP", "chance mAP", "classes", "photos"):
        table.add_column(heading, justify="left" if heading == "labels" else "right")
    for part, values in metrics.items():
        table.add_row(
            part,
            *("–" if values[name] is None else f"{values[name]:.3f}" for name in ("mAP", "miAP", "chance_mAP")),
            str(values["classes"]),
            str(values["images"]),
        )
    return table


def _top_table(top: dict[str, list[dict[str, Any]]]) -> Table:
    table = Table(title="The best labels of a held-out photo", title_justify="left")
    for heading in ("zero-shot", "k", "precision", "recall", "F1", "photos"):
        table.add_column(heading, justify="left" if heading == "zero-shot" else "right")
    for way, rows in top.items():
        for at_k in rows:
            levels = ("–" if at_k[name] is None else f"{at_k[name]:.3f}" for name in ("precision", "recall", "F1"))
            table.add_row(way, str(at_k["k"]), *levels, str(at_k["images"]))
    return table
