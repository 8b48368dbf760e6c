"""The frozen ImageNet classifier in front of every model: images -> features x and external-class logits.

Section 3.2 of the paper takes x and p^a from one such network.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Self, cast

import msgspec
import torch
from msgspec import Struct
from torch import Tensor, nn

from mlzsl.cli.errors import UsageError
from mlzsl.cli.json_decoding import convert_json
from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.imaging.preprocessing import Preprocessing
from mlzsl.train.backbones.architectures import UNKNOWN_LICENSE, create_network
from mlzsl.train.backbones.resnets import TimmInterface
from mlzsl.train.backbones.weights import BATCH_COUNTER, load_weights

# Features are x; x and log q, logits at spatial locations; or x and log p, where a network has no such logits.
Pooling = Literal["gap", "dense", "global"]
GAP: Pooling = "gap"
DENSE: Pooling = "dense"
GLOBAL: Pooling = "global"
DENSE_WINDOW = 3  # side of the average pooling window around a spatial location
DENSE_POWER = 3  # of the power mean over spatial locations, between their mean (1) and their maximum (∞)
SAME = 1e-4  # of the largest feature: two ways to compute features that differ by less are one


class BackboneConfig(Struct, frozen=True):
    """All of a backbone but its tensors; attributes as those of `Backbone`."""

    name: str
    preprocessing: dict[str, Any]
    external: LabelSet
    pooling: Pooling = GAP
    license: str = UNKNOWN_LICENSE


class Backbone(nn.Module):
    """A frozen network from uint8 images to features and logits, always in evaluation mode.

    Attributes:
        name: of `--backbone`.
        feature_dim: F, the length of x.
        pooling: GAP for features x, DENSE for x and log q, GLOBAL for x and log p.
        num_features: the length of a photo's features: F, or F + C.
        external: the classes of the logits, in logit order.
        preprocessing: how photos become images.
        license: of the weights, an SPDX identifier or "unknown".
        network: the network itself, with timm's interface and the tensor names of its library.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        external: LabelSet,
        preprocessing: Preprocessing,
        pooling: Pooling = GAP,
        license: str = UNKNOWN_LICENSE,
    ) -> None:
        """Freeze `network`, with a logit for each of the `external` classes.

        Raises:
            UsageError: `pooling` is DENSE and the network has no exact logits at spatial locations.
        """
        super().__init__()
        self.name, self.external, self.preprocessing, self.license = name, external, preprocessing, license
        self.pooling = pooling
        self.network = network.requires_grad_(False).to(memory_format=torch.channels_last)
        self.normalize = Normalize(preprocessing.mean, preprocessing.std)
        self.feature_dim: int = self.classifier.in_features
        self.num_features = self.feature_dim + (0 if pooling == GAP else len(external))
        self.train(False)
        if pooling == DENSE and not self.has_dense_logits:
            raise UsageError(
                f"--backbone {name}: has no logits at spatial locations, since its classifier is not a linear layer "
                "after an average pool; add --pooling global to use the whole photo's alone."
            )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and the logits of the external classes.

        Args:
            images: RGB, uint8 [B, S, S, 3].

        Returns:
            Features, float32 [B, F]: x, the input of the classifier; with DENSE [B, F + C]: x and log q of
            `dense_log_probabilities`; with GLOBAL [B, F + C]: x and log p, the log softmax of the logits. Logits,
            float32 [B, C].
        """
        return features_and_logits(self.network, self.normalize(images), self.pooling)

    def with_pooling(self, pooling: Pooling) -> "Backbone":
        """The same network with another pooling."""
        return Backbone(self.name, self.network, self.external, self.preprocessing, pooling, self.license)

    @property
    def classifier(self) -> nn.Linear:
        """The layer from x to the logits of the external classes."""
        return cast(nn.Linear, cast(Any, self.network).get_classifier())

    @cached_property
    def has_dense_logits(self) -> bool:
        """Whether x is the average of feature maps, so that the classifier applies to each spatial location too."""
        if isinstance(self.network, TimmInterface):
            return True
        size, network = self.preprocessing.size, cast(Any, self.network)
        device = self.normalize.scale.device
        images = torch.randint(0, 256, (2, size, size, 3), generator=torch.Generator().manual_seed(0)).byte()
        with torch.inference_mode():
            maps = network.forward_features(self.normalize(images.to(device)))
            x = network.forward_head(maps, pre_logits=True)
            if maps.ndim != 4 or maps.shape[1] != x.shape[1]:
                return False
            return bool((maps.mean(dim=(2, 3)) - x).abs().max() <= SAME * x.abs().max())

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
        config = BackboneConfig(self.name, self.preprocessing.to_json(), self.external, self.pooling, self.license)
        return cast(dict[str, Any], msgspec.to_builtins(config))

    @classmethod
    def from_config(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Self:
        """Restore a backbone from `config()` and its `state_dict()`.

        Raises:
            UsageError: an unknown architecture or pooling, a malformed configuration, or tensors that do not match.
        """
        read = convert_json(dict(config), BackboneConfig, "the backbone's configuration", "train again")
        tensors = {key.removeprefix("network."): tensor for key, tensor in state.items()}
        preprocessing, classes = Preprocessing.from_json(read.preprocessing), len(read.external)
        network = create_network(read.name, classes, preprocessing.size)
        load_weights(network, tensors, "the backbone", f"{read.name} with {classes} classes")
        return cls(read.name, network, read.external, preprocessing, read.pooling, read.license)


class Normalize(nn.Module):
    """RGB uint8 [B, S, S, 3] -> float32 [B, 3, S, S], normalized by mean and standard deviation of RGB in [0, 1]."""

    scale: Tensor
    offset: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        means, deviations = torch.tensor(mean), torch.tensor(std)
        self.register_buffer("scale", (1 / (255 * deviations))[:, None, None], persistent=False)
        self.register_buffer("offset", (-means / deviations)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        # The cast comes first: TensorRT's parser takes uint8 in no other operator.
        normalized = images.float().permute(0, 3, 1, 2) * self.scale + self.offset
        # An exported average pool of channels-last maps computes indices of the batch, which blocks fusions.
        return normalized.contiguous() if torch.compiler.is_exporting() else normalized


def features_and_logits(network: nn.Module, images: Tensor, pooling: Pooling = GAP) -> tuple[Tensor, Tensor]:
    """Run a network on normalized images, float32 [B, 3, S, S] -> features [B, F] or [B, F + C], logits [B, C]."""
    net: Any = network
    maps = net.forward_features(images)
    x = net.forward_head(maps, pre_logits=True)  # (B, F)
    classifier = net.get_classifier()
    logits = classifier(x)
    if pooling == GAP:
        return x, logits
    log_q = dense_log_probabilities(classifier, maps) if pooling == DENSE else logits.log_softmax(dim=1)
    return torch.cat([x, log_q], dim=1), logits


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
