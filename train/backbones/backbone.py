"""The frozen ImageNet classifier in front of every model: images -> features x and external-class logits.

ResNet: He et al., "Deep Residual Learning for Image Recognition", 2016, with torchvision's modules and tensor names, so
that its ImageNet weights load unchanged. Section 3.2 of the paper takes x and p^a from one such network.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, cast

import msgspec
import torch
from msgspec import Struct
from torch import Tensor, nn
from torchvision.models import resnet18, resnet34, resnet50, resnet101
from torchvision.models.resnet import BasicBlock

from mlzsl.cli.errors import UsageError
from mlzsl.cli.json_decoding import convert_json
from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.graph.labels.sets import LabelSet, load_label_set
from mlzsl.imaging.preprocessing import Preprocessing
from mlzsl.train.backbones.weights import BATCH_COUNTER, download_weights, load_weights, read_weights

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)

Pooling = Literal["gap", "dense"]  # features are x by global average pooling, or x and dense log probabilities
GAP: Pooling = "gap"
DENSE: Pooling = "dense"
DENSE_WINDOW = 3  # side of the average pooling window around a spatial location
DENSE_POWER = 3  # of the power mean over spatial locations, between their mean (1) and their maximum (∞)


class SmallResNet(nn.Module):
    """A ResNet of ten layers for the demo, modules named as torchvision's; 62 MMAC at 96 px, 1.3 M parameters.

    Its last stage has stride 1: the feature map has a location every 16 pixels instead of 32, enough for the small
    objects of a small image.
    """

    WIDTHS = (32, 64, 128, 256)

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        stem = self.WIDTHS[0]
        self.conv1 = nn.Conv2d(3, stem, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(stem, stem, stride=1)
        self.layer2 = _stage(stem, self.WIDTHS[1], stride=2)
        self.layer3 = _stage(self.WIDTHS[1], self.WIDTHS[2], stride=2)
        self.layer4 = _stage(self.WIDTHS[2], self.WIDTHS[3], stride=1)
        self.fc = nn.Linear(self.WIDTHS[3], num_classes)


def _stage(width_in: int, width_out: int, stride: int) -> nn.Sequential:
    downsample = None
    if stride != 1 or width_in != width_out:
        downsample = nn.Sequential(
            nn.Conv2d(width_in, width_out, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(width_out)
        )
    return nn.Sequential(BasicBlock(width_in, width_out, stride, downsample))


ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {
    "small": SmallResNet,
    "resnet18": lambda classes: resnet18(num_classes=classes),
    "resnet34": lambda classes: resnet34(num_classes=classes),
    "resnet50": lambda classes: resnet50(num_classes=classes),
    "resnet101": lambda classes: resnet101(num_classes=classes),
}


class BackboneConfig(Struct, frozen=True):
    """All of a backbone but its tensors; attributes as those of `Backbone`."""

    name: str
    preprocessing: dict[str, Any]
    external: LabelSet
    pooling: Pooling = GAP


class Backbone(nn.Module):
    """A frozen network from uint8 images to features and logits, always in evaluation mode.

    Attributes:
        name: the architecture, a key of `ARCHITECTURES`.
        feature_dim: F, the length of x.
        pooling: GAP for features x, DENSE for x and log q.
        num_features: the length of a photo's features: F, or F + C.
        external: the classes of the logits, in logit order.
        preprocessing: how photos become images.
        network: the ResNet itself, with torchvision's tensor names.
    """

    def __init__(
        self, name: str, network: nn.Module, external: LabelSet, preprocessing: Preprocessing, pooling: Pooling = GAP
    ) -> None:
        """Freeze `network`, an `ARCHITECTURES[name]` with a logit for each of the `external` classes."""
        super().__init__()
        self.name, self.external, self.preprocessing, self.pooling = name, external, preprocessing, pooling
        self.network = network.requires_grad_(False).to(memory_format=torch.channels_last)
        self.normalize = Normalize()
        self.feature_dim: int = network.fc.in_features  # type: ignore[union-attr, assignment]
        self.num_features = self.feature_dim + (len(external) if pooling == DENSE else 0)
        self.train(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and the logits of the external classes.

        Args:
            images: RGB, uint8 [B, S, S, 3].

        Returns:
            Features, float32 [B, F]: x, the global average of the last feature map; with DENSE [B, F + C]: x and log q
            of `dense_log_probabilities`. Logits of x, float32 [B, C].
        """
        return features_and_logits(self.network, self.normalize(images), self.pooling)

    def with_pooling(self, pooling: Pooling) -> "Backbone":
        """The same network with another pooling."""
        return Backbone(self.name, self.network, self.external, self.preprocessing, pooling)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode whatever `mode` is: the backbone is frozen (section 4.1)."""
        return super().train(False)

    def weights_sha256(self) -> str:
        """A hash of the network's tensors (name, shape, float32 values), independent of the weights file's format."""
        parts: list[bytes] = []
        for name, tensor in sorted(self.network.state_dict().items()):
            if not name.endswith(BATCH_COUNTER):
                values = tensor.cpu().contiguous().numpy().astype("<f4", copy=False)
                parts += [name.encode(), str(values.shape).encode(), values.tobytes()]
        return sha256_of_bytes(*parts)

    def config(self) -> dict[str, Any]:
        """A `BackboneConfig` as JSON; `from_config` restores the backbone from it and `state_dict()`."""
        config = BackboneConfig(self.name, self.preprocessing.to_json(), self.external, self.pooling)
        return cast(dict[str, Any], msgspec.to_builtins(config))

    @classmethod
    def from_config(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Self:
        """Restore a backbone from `config()` and its `state_dict()`.

        Raises:
            UsageError: an unknown architecture or pooling, a malformed configuration, or tensors that do not match.
        """
        read = convert_json(dict(config), BackboneConfig, "the backbone's configuration", "train again")
        tensors = {key.removeprefix("network."): tensor for key, tensor in state.items()}
        network = _network(_check_name(read.name), read.external, tensors, source="the backbone")
        return cls(read.name, network, read.external, Preprocessing.from_json(read.preprocessing), read.pooling)


class Normalize(nn.Module):
    """RGB uint8 [B, S, S, 3] -> float32 [B, 3, S, S], normalized by ImageNet's mean and standard deviation."""

    scale: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        self.register_buffer("scale", (1 / (255 * std))[:, None, None], persistent=False)
        self.register_buffer("offset", (-mean / std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        # The cast comes first: TensorRT's parser takes uint8 in no other operator.
        return images.float().permute(0, 3, 1, 2) * self.scale + self.offset


def features_and_logits(network: nn.Module, images: Tensor, pooling: Pooling = GAP) -> tuple[Tensor, Tensor]:
    """Run a ResNet on normalized images, float32 [B, 3, S, S] -> features [B, F] or [B, F + C], logits [B, C]."""
    net: Any = network
    maps = feature_maps(network, images)
    x = maps.mean(dim=(2, 3))  # global average pooling, (B, F)
    features = torch.cat([x, dense_log_probabilities(net.fc, maps)], dim=1) if pooling == DENSE else x
    return features, net.fc(x)


def dense_log_probabilities(classifier: nn.Module, maps: Tensor) -> Tensor:
    """log q, the classifier's probabilities pooled over spatial locations: high for a class that fills one location.

    q_e is the power mean of p_e over the locations of the feature map, with exponent DENSE_POWER; p is the softmax at a
    location after average pooling with a DENSE_WINDOW × DENSE_WINDOW window. Logarithms do not underflow in float16.

    Args:
        classifier: of pooled features, [..., F] -> [..., C].
        maps: the last feature maps, float [B, F, H, W].

    Returns:
        float [B, C].
    """
    pooled = nn.functional.avg_pool2d(maps, DENSE_WINDOW, stride=1, padding=DENSE_WINDOW // 2, count_include_pad=False)
    log_p = classifier(pooled.flatten(2).transpose(1, 2)).log_softmax(dim=2)  # (B, H W, C)
    locations = maps.shape[2] * maps.shape[3]
    return ((DENSE_POWER * log_p).logsumexp(dim=1) - math.log(locations)) / DENSE_POWER


def feature_maps(network: nn.Module, images: Tensor) -> Tensor:
    """The last feature maps of a ResNet, float32 [B, 3, S, S] -> [B, F, S/32, S/32]; S/16 for `SmallResNet`."""
    net: Any = network
    maps = net.maxpool(net.relu(net.bn1(net.conv1(images))))
    maps = net.layer4(net.layer3(net.layer2(net.layer1(maps))))
    return cast(Tensor, maps)


def open_backbone(
    name: str, weights: Path | None = None, image_size: int | None = None, quiet: bool = False
) -> Backbone:
    """Open an ImageNet ResNet with published weights.

    Args:
        name: resnet18, resnet34, resnet50 or resnet101; `pretraining` trains the small one.
        weights: a local file with torchvision's tensor names; None downloads torchvision's IMAGENET1K_V1.
        image_size: S, the side of the images in pixels; None for 224.
        quiet: show no download progress.

    Raises:
        UsageError: an unknown name, or a weights file that is missing, unreadable or of another network.
        FailureError: the weights cannot be downloaded.
    """
    if _check_name(name) == "small":
        raise UsageError("backbone small has no published weights: mlzsl-train --backbone small pretrains it itself.")
    external = load_label_set("imagenet1k")
    state = download_weights(name, quiet) if weights is None else read_weights(weights)
    network = _network(name, external, state, source=str(weights or f"torchvision's weights of {name}"))
    preprocessing = Preprocessing() if image_size is None else Preprocessing(size=image_size)
    return Backbone(name, network, external, preprocessing)


def _network(name: str, external: LabelSet, state: Mapping[str, Tensor], source: str) -> nn.Module:
    with torch.device("meta"):  # allocates nothing and draws no random numbers
        network = ARCHITECTURES[name](len(external))
    load_weights(network, state, source, f"{name} with {len(external)} classes, named as torchvision names them")
    return network


def _check_name(name: str) -> str:
    if name not in ARCHITECTURES:
        raise UsageError(f"unknown backbone {name!r}; expected one of {', '.join(ARCHITECTURES)}.")
    return name
