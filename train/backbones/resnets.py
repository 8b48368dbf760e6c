"""ResNets with timm's interface: He et al., "Deep Residual Learning for Image Recognition", 2016.

Modules and tensors have torchvision's names, so that its ImageNet weights load unchanged.
"""

from typing import Any, cast

import torchvision.models.resnet as torchvision_resnet
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

LAYERS: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
    "resnet101": (Bottleneck, [3, 4, 23, 3]),
}


class TimmInterface(nn.Module):
    """timm's methods for a network with torchvision's modules, whose classifier is linear after an average pool."""

    def forward_features(self, images: Tensor) -> Tensor:
        """The last feature maps, float [B, 3, S, S] -> [B, F, S/32, S/32]; S/16 for `SmallResNet`."""
        net: Any = self
        maps = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        return cast(Tensor, net.layer4(net.layer3(net.layer2(net.layer1(maps)))))

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """Feature maps [B, F, H, W] -> logits [B, C], or their averages [B, F]."""
        x = maps.mean(dim=(2, 3))
        return x if pre_logits else cast(Tensor, self.get_classifier()(x))

    def get_classifier(self) -> nn.Module:
        """The linear layer from averages to logits."""
        return cast(nn.Module, self.fc)


class ResNet(TimmInterface, torchvision_resnet.ResNet):  # type: ignore[misc]
    """A ResNet of torchvision."""

    def __init__(self, name: str, num_classes: int) -> None:
        """Create the network `name`, a key of `LAYERS`, with random parameters."""
        super().__init__(*LAYERS[name], num_classes=num_classes)


class SmallResNet(TimmInterface):
    """A ResNet of ten layers for generated photos; 62 MMAC at 96 px, 1.3 M parameters.

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
