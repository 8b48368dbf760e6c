"""The options that `mlzsl-train` and `mlzsl-experiment` share, and the job that they describe."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlzsl.cli.options import FiniteFloat, refuse_unused, skip_unlinked_option
from mlzsl.graph.embeddings.source import MINILM, TAXONOMY

if TYPE_CHECKING:  # torch is heavy: --help must not wait for it
    from mlzsl.train.training.job import Job

_Function = Callable[..., Any]


def combine(*options: Callable[[_Function], _Function]) -> Callable[[_Function], _Function]:
    """Make one decorator of several options; help lists them in this order."""
    return lambda function: functools.reduce(lambda made, option: option(made), reversed(options), function)


data_options = combine(
    click.option(
        "--data",
        metavar="scenes|FOLDER|FORMAT:PATH",
        help="The photos: the synthetic set, a folder with a labels.json (file name to list of labels), or a dataset "
        "in its own format: coco:PATH, nuswide:PATH, voc:PATH, openimages:PATH.  [default: scenes]",
    ),
    click.option(
        "--labels",
        metavar="NAME|FILE",
        help="The label set: coco80, nuswide81, voc20, imagenet1k, or a text file with a label per line.  "
        "[default: the data's own; coco80 for scenes and folders]",
    ),
    skip_unlinked_option,
    click.option(
        "--unseen",
        metavar="SPLIT|FILE|none",
        help="The labels to exclude from training.  [default: the paper's 16 of coco80 and of nuswide81]",
    ),
    click.option(
        "--held-out",
        type=FiniteFloat(0, 1, min_open=True, max_open=True),
        help="Share of the photos to evaluate on, for data without a split of its own.  [default: 0.2]",
    ),
)
backbone_weights_option = click.option(
    "--backbone-weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Weights of the backbone, .safetensors or a .pth state dict.  [default: the published ones, downloaded "
    "once or in their package]",
)
image_size_option = click.option(
    "--image-size",
    type=click.IntRange(32, 1024),
    help="Side of the backbone's input images, in pixels.  [default: the backbone's own; 96 for small]",
)
fit_option = click.option(
    "--fit",
    type=click.Choice(["squash", "crop"]),
    help="How a photo becomes a square: squash the whole of it, or crop its center, as the backbone's own "
    "evaluation does.  [default: squash]",
)
backbone_options = combine(
    click.option(
        "--backbone",
        metavar="NAME",
        help="The frozen feature extractor: small (of generated photos), resnet18, resnet34, resnet50, resnet101, "
        "efficientnet-lite0, -lite1, -lite2 (in the extra starter), timm:NAME for any ImageNet classifier of timm "
        "with a linear head, or clip:NAME for the image tower of a CLIP model of open_clip (in the extra clip).  "
        "[default: small for scenes, else efficientnet-lite0]",
    ),
    backbone_weights_option,
    image_size_option,
    fit_option,
    click.option(
        "--pooling",
        type=click.Choice(["dense", "global"]),
        help="Which external probabilities evidence reads beside the whole photo's: those at spatial locations "
        "(dense), or none (global), for backbones without them.  [default: dense]",
    ),
    click.option(
        "--embeddings",
        metavar="taxonomy|minilm|sentence|clip:NAME|FILE",
        help="Class embeddings: computed from the taxonomy, shipped vectors of all-MiniLM-L6-v2, that model itself "
        "(sentence:FOLDER for another), the text tower of a CLIP model (clip:NAME:FILE for weights other than the "
        "published ones), or a file of vectors: text in GloVe's format, .npy, .safetensors.  [default: the "
        "backbone's own text tower for zero-shot, taxonomy for scenes, else minilm]",
    ),
    click.option(
        "--cache",
        default=Path("mlzsl-cache"),
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder for generated photos, the small backbone, features and finished runs; safe to delete.",
    ),
)
threshold_option = click.option(
    "--threshold",
    default=0.5,
    type=FiniteFloat(0, 1),
    help="WUP similarity above which two classes share an edge.",
)
hidden_dim_option = click.option(
    "--hidden-dim",
    type=click.IntRange(1, 8192),
    help="Width of node states, d_h, of SKG and the RGCN models.  [default: 256]",
)
layers_option = click.option(
    "--layers", type=click.IntRange(1, 16), help="Graph layers of the RGCN models.  [default: 2]"
)
training_options = combine(
    click.option("--epochs", default=9, type=click.IntRange(1), help="Passes over the training photos."),
    click.option("--batch-size", default=32, type=click.IntRange(1), help="Photos per step."),
    click.option(
        "--learning-rate", default=5e-4, type=FiniteFloat(0, min_open=True), help="Adam's initial learning rate."
    ),
    click.option(
        "--seed",
        default=42,
        type=click.IntRange(0, 2**31 - 1),
        help="Seed of parameters, photo order, noise, photo splits and generated photos.",
    ),
)


def job_from_flags(flags: dict[str, Any], models: Iterable[str], without_photos: bool = False) -> "Job":
    """Make a job of a command's flags, and refuse those that have no effect.

    Args:
        flags: fields of Job and TrainingConfig.
        models: that the command trains; a flag has to affect one of them.
        without_photos: whether the command reads no photos; flags on photos then have no effect.

    Raises:
        UsageError: a flag that has no effect.
    """
    from mlzsl.train.models.registry import MODELS, settings_of
    from mlzsl.train.training.job import SETTINGS, Job
    from mlzsl.train.training.trainer import TrainingConfig

    known = [name for name in models if name in MODELS]  # an unknown name has an error of its own later
    with_models = f"with --model {', '.join(known)}"
    if known:
        refuse_unused(
            with_models, *(name for name in SETTINGS if all(name not in settings_of(model) for model in known))
        )
    if known and all(MODELS[name].pooling == "gap" for name in known):
        refuse_unused(with_models, "pooling")
    if known and not any(MODELS[name].learns for name in known):
        unused = ("epochs", "batch_size", "learning_rate", "precision", "resume")
        refuse_unused(f"{with_models}, which is not trained in steps", *unused)
    if without_photos:
        refuse_unused("without --data", "unseen", "held_out", "seed", "device", "external_classes")
    training = {each.name: flags.pop(each.name) for each in fields(TrainingConfig) if each.name in flags}
    scenes = not without_photos and flags["data"] in (None, "scenes")
    flags["data"] = flags["data"] or "scenes"
    flags["backbone"] = flags["backbone"] or ("small" if scenes else "efficientnet-lite0")
    own_text = bool(known) and all(MODELS[name].needs_clip for name in known)
    flags["embeddings"] = flags["embeddings"] or (flags["backbone"] if own_text else TAXONOMY if scenes else MINILM)
    return Job(training=TrainingConfig(**training), **flags)
