"""The frozen ImageNet classifier in front of every system: photos -> features x and external class logits.

ResNet: He et al., "Deep Residual Learning for Image Recognition", 2016; its modules and tensor names are torchvision's,
whose ImageNet weights load unchanged. The paper's section 3.2 takes x and p^a from one such network.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet34, resnet50, resnet101
from torchvision.models.resnet import BasicBlock

from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.graph.labels.sets import LabelSet, load_label_set
from mlzsl.imaging.preprocessing import Preprocessing
from mlzsl.train.backbones.weights import SEEN_BATCHES, download_weights, fit_weights, read_weights

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)

# What a photo's features hold: x alone, or also how sure of each class the classifier is at the photo's places.
AVERAGE, PLACES = READINGS = "average", "places"
PLACE = 3  # a place sees the average of so many places of the feature map each way
POWER = 3  # of the mean over places: between their average (1) and the surest one (∞)


class SmallResNet(nn.Module):
    """A ResNet of ten layers for the demo, modules named as torchvision's; 62 MMAC at 96 px, 1.3 M parameters.

    Its last stage keeps the stride of the one before: 16 pixels instead of 32, so that the small objects of a small
    image have places of their own in the feature map.
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


class Backbone(nn.Module):
    """A frozen network from uint8 photos to features and logits; always in evaluation mode, never trained.

    Attributes:
        name: the architecture, a key of `ARCHITECTURES`.
        feature_dim: F, the length of x.
        reading: AVERAGE or PLACES, what the features hold.
        width: the length of a photo's features: F, or F + C.
        external: the classes of the logits, in logit order.
        preprocessing: how photos become the images that it takes.
        network: the ResNet itself, with torchvision's tensor names.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        external: LabelSet,
        preprocessing: Preprocessing,
        reading: str = AVERAGE,
    ) -> None:
        """Freeze `network`, one of `ARCHITECTURES[name]` with a logit for each of the `external` classes."""
        super().__init__()
        self.name, self.external, self.preprocessing, self.reading = name, external, preprocessing, reading
        self.network = network.requires_grad_(False).to(memory_format=torch.channels_last)
        self.normalize = Normalize()
        self.feature_dim: int = network.fc.in_features  # type: ignore[union-attr, assignment]
        self.width = self.feature_dim + (len(external) if reading == PLACES else 0)
        self.train(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return x and the logits of the external classes.

        Args:
            images: RGB, uint8 [B, S, S, 3].

        Returns:
            features, float32 [B, F]: x, the last feature map's average over all places; or [B, F + C] where places are
            read: beside x, log q of `evidence_at_places`. Logits, float32 [B, C], which x alone gives.
        """
        return features_and_logits(self.network, self.normalize(images), self.reading)

    def reading_as(self, reading: str) -> "Backbone":
        """The same network, read in a given way."""
        return Backbone(self.name, self.network, self.external, self.preprocessing, reading)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever is asked: the backbone is frozen (section 4.1)."""
        return super().train(False)

    def weights_sha256(self) -> str:
        """A hash of the network's tensors (name, shape, float32 values), the same whatever file they came from."""
        parts: list[bytes] = []
        for name, tensor in sorted(self.network.state_dict().items()):
            if not name.endswith(SEEN_BATCHES):
                values = tensor.cpu().contiguous().numpy().astype("<f4", copy=False)
                parts += [name.encode(), str(values.shape).encode(), values.tobytes()]
        return sha256_of_bytes(*parts)

    def config(self) -> dict[str, Any]:
        """All but the tensors, as JSON: `from_config` makes the same backbone from it and `state_dict()`."""
        return {
            "name": self.name,
            "preprocessing": self.preprocessing.to_json(),
            "external": asdict(self.external),
            "reading": self.reading,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Self:
        """Rebuild a backbone from `config()` and the tensors of its `state_dict()`.

        Raises:
            UsageError: an unknown architecture, a malformed configuration, or tensors that do not fit it.
        """
        name = _known(config.get("name"))
        reading = config.get("reading", AVERAGE)  # as it was before there was another
        if reading not in READINGS:
            raise UsageError(f"the backbone's reading {reading!r} is not known; expected {' or '.join(READINGS)}.")
        try:
            external = LabelSet(
                str(config["external"]["name"]),
                tuple(map(str, config["external"]["labels"])),
                tuple(map(str, config["external"]["synsets"])),
            )
            preprocessing = Preprocessing.from_json(dict(config["preprocessing"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"the backbone's configuration is unfit ({error!r}).") from error
        network = _skeleton(name, len(external))
        tensors = {key.removeprefix("network."): tensor for key, tensor in state.items()}
        fit_weights(network, tensors, "the backbone", _title(name, external))
        return cls(name, network, external, preprocessing, reading)


class Normalize(nn.Module):
    """RGB uint8 [B, S, S, 3] -> float32 [B, 3, S, S], ImageNet's mean and deviation taken out of each channel."""

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


def features_and_logits(network: nn.Module, images: Tensor, reading: str = AVERAGE) -> tuple[Tensor, Tensor]:
    """Run a ResNet on normalized images, float32 [B, 3, S, S] -> features [B, F] or [B, F + C], logits [B, C]."""
    net: Any = network
    maps = feature_maps(network, images)
    x = maps.mean(dim=(2, 3))  # global average pooling, (B, F)
    features = torch.cat([x, evidence_at_places(net.fc, maps)], dim=1) if reading == PLACES else x
    return features, net.fc(x)


def evidence_at_places(classifier: nn.Module, maps: Tensor) -> Tensor:
    """log q: how sure of each class a classifier is anywhere in a photo.

    q_e is the mean of p_e over the places of the feature map, taken with `POWER`; p is the softmax at a place, after an
    average over `PLACE` × `PLACE` places around it. In logarithms, which no short float underflows.

    Args:
        classifier: of averaged features, [..., F] -> [..., C].
        maps: the last feature maps, float [B, F, H, W].

    Returns:
        float [B, C].
    """
    around = nn.functional.avg_pool2d(maps, PLACE, stride=1, padding=PLACE // 2, count_include_pad=False)
    log_p = classifier(around.flatten(2).transpose(1, 2)).log_softmax(dim=2)  # (B, H W, C)
    places = maps.shape[2] * maps.shape[3]
    return ((POWER * log_p).logsumexp(dim=1) - math.log(places)) / POWER


def feature_maps(network: nn.Module, images: Tensor) -> Tensor:
    """The last feature maps of a ResNet, float32 [B, 3, S, S] -> [B, F, S/32, S/32]; S/16 in the small one."""
    net: Any = network
    maps = net.maxpool(net.relu(net.bn1(net.conv1(images))))
    maps = net.layer4(net.layer3(net.layer2(net.layer1(maps))))
    return cast(Tensor, maps)


def open_backbone(
    name: str, weights: Path | None = None, image_size: int | None = None, quiet: bool = False
) -> Backbone:
    """Open an ImageNet ResNet with published weights.

    Args:
        name: resnet18, resnet34, resnet50 or resnet101. (The small one is pretrained instead, in `pretraining`.)
        weights: a local file with torchvision's tensor names; None downloads torchvision's IMAGENET1K_V1.
        image_size: S, the side of the images that photos become; None takes the default, 224 px.
        quiet: show no download progress.

    Raises:
        UsageError: an unknown name, or a weights file that is missing, unreadable or of another network.
        FailureError: the weights cannot be downloaded.
    """
    if _known(name) == "small":
        raise UsageError("backbone small has no published weights: mlzsl-train --backbone small pretrains it itself.")
    external = load_label_set("imagenet1k")
    state = download_weights(name, quiet) if weights is None else read_weights(weights)
    network = _skeleton(name, len(external))
    fit_weights(network, state, str(weights or f"torchvision's weights of {name}"), _title(name, external))
    preprocessing = Preprocessing() if image_size is None else Preprocessing(size=image_size)
    return Backbone(name, network, external, preprocessing)


def _skeleton(name: str, classes: int) -> nn.Module:
    """The network without memory for its tensors, which costs nothing and draws no random numbers."""
    with torch.device("meta"):
        return ARCHITECTURES[name](classes)


def _title(name: str, external: LabelSet) -> str:
    return f"{name} with {len(external)} classes, named as torchvision names them"


def _known(name: Any) -> str:
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise UsageError(f"backbone {name!r} is not known; expected one of {', '.join(ARCHITECTURES)}.")
    return name
