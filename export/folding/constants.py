"""Constants of a folded head: computed in float64, rounded once to float32, kept as buffers."""

from torch import Tensor, nn

from mlzsl.train.models.layers import ConcatLinear


def keep(head: nn.Module, name: str, tensor: Tensor) -> None:
    """Keep a constant as the buffer `name` of a head; floats as float32, integers as they are."""
    kept = tensor.detach().clone().contiguous()
    head.register_buffer(name, kept.float() if kept.is_floating_point() else kept)


def of_embeddings(layer: ConcatLinear, embeddings: Tensor) -> Tensor:
    """The constant part of a ConcatLinear: s_y W_s + b; S (n, d_s) -> (n, out)."""
    return nn.functional.linear(embeddings, layer.second_weight, layer.bias)
