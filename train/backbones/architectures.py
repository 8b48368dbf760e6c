"""The networks by the names of `--backbone`: how to create each, its classes and its preprocessing.

All have timm's interface: `forward_features`, `forward_head`, `get_classifier`, the last a linear layer.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from mlzsl.cli.errors import UsageError
from mlzsl.graph.labels.sets import LabelSet, load_label_set
from mlzsl.graph.taxonomy import Taxonomy
from mlzsl.imaging.preprocessing import Fit, Preprocessing
from mlzsl.train.backbones.clip import CLIP, check_clip_name, clip_preprocessing, create_image_tower
from mlzsl.train.backbones.resnets import LAYERS, ResNet, SmallResNet

SMALL = "small"
TIMM = "timm:"
LITE_SIZES = {"efficientnet-lite0": 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}  # px
LITE_MEAN, LITE_STD = 127 / 255, 128 / 255  # of their training, where pixels were (v - 127) / 128
NAMES = (SMALL, *LAYERS, *LITE_SIZES)
IMAGENET_1K = "imagenet-1k"
UNKNOWN_LICENSE = "unknown"
CROP = 0.875  # of torchvision's evaluation


@dataclass(frozen=True)
class Architecture:
    """What is known of a backbone with published weights before they are read.

    Attributes:
        external: the classes of its logits, in their order.
        preprocessing: of its own evaluation, but that the whole photo is squashed unless a crop is asked for.
        fixed_size: whether it takes images of that size only.
        license: of the published weights, an SPDX identifier or "unknown".
        hub: the Hugging Face repository of its weights; None where they come from elsewhere.
    """

    external: LabelSet
    preprocessing: Preprocessing
    fixed_size: bool = False
    license: str = UNKNOWN_LICENSE
    hub: str | None = None


def check_name(name: str) -> None:
    """Check the name of a backbone.

    Raises:
        UsageError: it is unknown; the sentence names similar ones.
    """
    if name.startswith(TIMM):
        import timm

        own = name.removeprefix(TIMM)
        if not timm.is_model(own) or (own.partition(".")[2] and not timm.models.is_model_pretrained(own)):
            known = timm.list_models() + timm.list_pretrained()
            similar = difflib.get_close_matches(own, known, 3, cutoff=0.5)
            named = ", ".join(TIMM + each for each in similar)
            hint = f"did you mean {named}?" if similar else "see timm.list_models()."
            raise UsageError(f"--backbone {name}: timm has no such model; {hint}")
    elif name.startswith(CLIP):
        check_clip_name(name)
    elif name not in NAMES:
        raise UsageError(f"unknown backbone {name!r}; expected one of {', '.join(NAMES)}, timm:NAME or clip:NAME.")


def find_architecture(name: str, fit: Fit = "squash") -> Architecture:
    """What is known of a backbone with published weights.

    Args:
        name: of `--backbone`, but "small".
        fit: how a photo becomes a square.

    Raises:
        UsageError: an unknown name, or a model of timm that does not classify ImageNet's classes from RGB squares.
    """
    check_name(name)
    imagenet = load_label_set("imagenet1k")
    crop = CROP if fit == "crop" else 1.0
    if name in LAYERS:
        return Architecture(imagenet, Preprocessing(fit=fit, crop=crop), license="BSD-3-Clause")
    if name in LITE_SIZES:
        mean, std = (LITE_MEAN,) * 3, (LITE_STD,) * 3
        preprocessing = Preprocessing(LITE_SIZES[name], fit, "bicubic", mean, std, crop)
        return Architecture(imagenet, preprocessing, license="Apache-2.0")
    if name.startswith(CLIP):
        return Architecture(imagenet, clip_preprocessing(name, fit), fixed_size=True)
    return _timm_architecture(name, fit)


def create_network(name: str, num_classes: int, size: int) -> nn.Module:
    """Create a network whose tensors are still to be loaded; no random numbers are drawn from PyTorch's generator.

    Args:
        name: of `--backbone`.
        num_classes: C.
        size: S in pixels, which some of timm's models are built for.

    Raises:
        UsageError: an unknown name, or a model without one linear classifier.
    """
    check_name(name)
    if name in (SMALL, *LAYERS):
        with torch.device("meta"):  # allocates nothing
            return SmallResNet(num_classes) if name == SMALL else ResNet(name, num_classes)
    if name.startswith(CLIP):
        with torch.random.fork_rng(devices=[]):
            return create_image_tower(name, num_classes)
    import timm

    own = "tf_" + name.replace("-", "_") if name in LITE_SIZES else name.removeprefix(TIMM)
    with torch.random.fork_rng(devices=[]):  # not on the meta device: buffers outside of the state dict are computed
        network: Any = timm.create_model(own, num_classes=num_classes, **_built_for(own, size))
    classifier = network.get_classifier() if hasattr(network, "forward_head") else None
    if not isinstance(classifier, nn.Linear):
        found = "no classifier" if classifier is None else type(classifier).__name__
        raise UsageError(
            f"--backbone {name}: has no single linear classifier (its own is of type {found}), from which mlzsl takes "
            "the external classes; choose another model of timm."
        )
    return cast(nn.Module, network)


def _timm_architecture(name: str, fit: Fit) -> Architecture:
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    config = _timm_config(name.removeprefix(TIMM))
    channels, height, width = config["input_size"]
    subset = infer_imagenet_subset({"num_classes": config["num_classes"], "pretrained_cfg": dict(config)})
    if (channels, height) != (3, width):
        raise UsageError(f"--backbone {name}: takes images of {width} x {height} px; mlzsl makes RGB squares.")
    if subset is None:
        raise UsageError(
            f"--backbone {name}: its {config['num_classes']} classes are not ImageNet's, from which mlzsl takes the "
            "external classes; choose a model with such a classifier: names end in in1k, in12k, in21k or in22k."
        )
    interpolation = config["interpolation"]
    if interpolation not in ("bilinear", "bicubic", "lanczos"):
        raise UsageError(f"--backbone {name}: is made for {interpolation} resizing, which mlzsl does not have.")
    crop = float(config["crop_pct"]) if fit == "crop" else 1.0
    return Architecture(
        external=load_label_set("imagenet1k") if subset == IMAGENET_1K else _classes(subset, ImageNetInfo(subset)),
        preprocessing=Preprocessing(width, fit, interpolation, tuple(config["mean"]), tuple(config["std"]), crop),
        fixed_size=bool(config.get("fixed_input_size")),
        license=config.get("license") or UNKNOWN_LICENSE,
        hub=config.get("hf_hub_id") or None,
    )


def _classes(subset: str, info: Any) -> LabelSet:
    """The classes of one of timm's lists of synsets; a class is named by the synset's first lemma."""
    taxonomy = Taxonomy.shipped()
    indices = [taxonomy.index(wnid) for wnid in info.label_names()]
    names = tuple(taxonomy.lemmas(index)[0].replace("_", " ") for index in indices)
    return LabelSet(subset, names, tuple(taxonomy.names[index] for index in indices))


def _timm_config(name: str) -> Mapping[str, Any]:
    from timm.models import get_pretrained_cfg

    config: Any = get_pretrained_cfg(name)
    if config is None:
        raise UsageError(f"--backbone {TIMM}{name}: timm states no configuration of it; choose another model.")
    return cast(Mapping[str, Any], config.to_dict())


def _built_for(name: str, size: int) -> dict[str, Any]:
    """The argument with which a model of timm is built for images of another size than its own."""
    config = _timm_config(name)
    return {"img_size": size} if config.get("fixed_input_size") and size != config["input_size"][1] else {}
