"""The exported graph of a network of timm: what backends fuse, and nothing that stands in their way."""

import onnx
import timm
import torch
from torch import Tensor, nn

from mlzsl.export.exporter import to_onnx
from mlzsl.export.network import Scorer, without_batch_norm
from mlzsl.graph.labels.sets import load_label_set
from mlzsl.imaging.preprocessing import Preprocessing
from mlzsl.train.backbones.backbone import Backbone

SIZE = 32


class Logits(nn.Module):
    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        return logits


def test_pooling_computes_nothing_from_the_shape_of_the_batch() -> None:
    """A Shape node that reads the images moves behind the first convolution in OpenVINO, which then fuses nothing."""
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0")
    backbone = Backbone("lite0", network, load_label_set("imagenet1k"), Preprocessing(size=SIZE))
    exported = onnx.load_from_string(to_onnx(Scorer(without_batch_norm(backbone), Logits()), SIZE))
    kinds = [node.op_type for node in exported.graph.node]
    assert set(kinds) == {"Cast", "Transpose", "Mul", "Add", "Conv", "Clip", "ReduceMean", "Reshape", "Gemm"}
    assert kinds.count("Conv") == 49
    conv = network.conv_stem.weight
    assert conv.is_contiguous(memory_format=torch.channels_last), "the network itself keeps its faster layout"
