"""Folded heads of the models that compare a photo with each label's embedding: embeddings join the last layer."""

from torch import Tensor, nn

from mlzsl.export.folding.constants import register_constants
from mlzsl.train.models.fast0tag import Fast0Tag, squash
from mlzsl.train.models.model import GraphTensors
from mlzsl.train.models.training_free import TrainingFree
from mlzsl.train.models.visual_semantic import VisualSemantic
from mlzsl.train.models.zero_shot import ZeroShot


class LinearHead(nn.Module):
    """One linear layer, F products per label."""

    weight: Tensor  # (F, N_t)
    bias: Tensor  # (N_t,)

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        register_constants(self, weight=weight, bias=bias)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        return (features @ self.weight + self.bias).sigmoid()


def fold_visual_semantic(model: VisualSemantic, graph: GraphTensors) -> LinearHead:
    """(x W + b) · s_y + b₀ = x (W s_y) + (b · s_y + b₀)."""
    unit = nn.functional.normalize(graph.target_embeddings)
    return LinearHead(model.projection.weight.T @ unit.T, unit @ model.projection.bias + model.offset)


def fold_zero_shot(model: ZeroShot, graph: GraphTensors) -> LinearHead:
    """z(y) is linear in x as it is written."""
    weight = model.label_weights(graph).T
    return LinearHead(weight, model.bias.expand(weight.shape[1]))


class FoldedFast0Tag(nn.Module):
    """The last layer of f and the embeddings are one matrix."""

    first_weight: Tensor  # (F, 2 F)
    first_bias: Tensor
    second_weight: Tensor  # (2 F, F / 2)
    second_bias: Tensor
    weight: Tensor  # (F / 2, N_t)
    bias: Tensor  # (N_t,)

    def __init__(self, model: Fast0Tag, graph: GraphTensors) -> None:
        super().__init__()
        unit = nn.functional.normalize(graph.target_embeddings)
        register_constants(
            self,
            first_weight=model.first.weight.T,
            first_bias=model.first.bias,
            second_weight=model.second.weight.T,
            second_bias=model.second.bias,
            weight=model.direction.weight.T @ unit.T,
            bias=unit @ model.direction.bias,
        )

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        hidden = (features @ self.first_weight + self.first_bias).relu()
        hidden = (hidden @ self.second_weight + self.second_bias).relu()
        return squash(hidden @ self.weight + self.bias)


class FoldedTrainingFree(nn.Module):
    """The similarity of labels and external classes is a constant: one matrix product."""

    similarity: Tensor  # (N_a, N_t)
    external_logits: Tensor  # int64 (N_a,)

    def __init__(self, model: TrainingFree, graph: GraphTensors) -> None:
        super().__init__()
        register_constants(self, similarity=model.similarity(graph), external_logits=graph.external_logits)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        propagated = logits.softmax(dim=1).index_select(1, self.external_logits) @ self.similarity  # v, (B, N_t)
        return propagated / (1 + propagated)
