"""Constants of folded heads: computed in float64, rounded once to float32, registered as buffers."""

from torch import Tensor, nn

from mlzsl.train.models.layers import ConcatLinear


def register_constants(head: nn.Module, **tensors: Tensor) -> None:
    """Register tensors as buffers of a head by name, floats as float32, integers unchanged."""
    for name, tensor in tensors.items():
        constant = tensor.detach().clone().contiguous()
        head.register_buffer(name, constant.float() if constant.is_floating_point() else constant)


def embedding_term(layer: ConcatLinear, embeddings: Tensor) -> Tensor:
    """The constant term of a ConcatLinear over [·; s_y]: s_y W_s + b; S (n, d_s) -> (n, out)."""
    return nn.functional.linear(embeddings, layer.second_weight, layer.bias)
