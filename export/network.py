"""A network from uint8 images to scores, and what export changes in it: batch norms are folded into convolutions."""

import copy
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mlzsl.train.backbones.backbone import Backbone


class Scorer(nn.Module):
    """images uint8 (N, S, S, 3) RGB -> scores float32 (N, L): backbone and head."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(*self.backbone(images))
        return scores

    @torch.inference_mode()
    def scores(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score a batch on the CPU, uint8 [n, S, S, 3] -> float32 [n, L]."""
        scores: npt.NDArray[np.float32] = self(torch.from_numpy(images)).numpy()
        return scores


def without_batch_norm(module: Backbone) -> Backbone:
    """A copy of a network in evaluation mode with each batch norm folded into the convolution before it.

    The new weights are computed in float64 and rounded once. A convolution is paired with the batch norm registered
    right after it in the same module, as in the networks of torchvision and timm; timm's batch norms may end in an
    activation, which stays.
    """
    folded = copy.deepcopy(module).eval()
    for parent in folded.modules():
        for (conv_name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv.double(), norm.double()).float())
                setattr(parent, norm_name, getattr(norm, "act", nn.Identity()))
    return folded


def example_images(size: int, count: int = 2) -> Tensor:
    """Black images for tracing and counting, uint8 (count, S, S, 3)."""
    return torch.zeros(count, size, size, 3, dtype=torch.uint8)
