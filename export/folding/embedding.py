"""The folded heads of systems that compare a photo with each label's embedding: the embeddings go into a last layer."""

from torch import Tensor, nn

from mlzsl.export.folding.constants import keep
from mlzsl.train.models.fast0tag import Fast0Tag, squash
from mlzsl.train.models.model import GraphTensors
from mlzsl.train.models.training_free import TrainingFree
from mlzsl.train.models.visual_semantic import VisualSemantic


class FoldedVisualSemantic(nn.Module):
    """(x W + b) · s_y + b₀ = x (W s_y) + (b · s_y + b₀): one linear layer, F products a label."""

    weight: Tensor  # (F, N_t)
    bias: Tensor  # (N_t,)

    def __init__(self, model: VisualSemantic, graph: GraphTensors) -> None:
        super().__init__()
        unit = nn.functional.normalize(graph.target_embeddings)
        keep(self, "weight", model.projection.weight.T @ unit.T)
        keep(self, "bias", unit @ model.projection.bias + model.offset)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        return (features @ self.weight + self.bias).sigmoid()


class FoldedFast0Tag(nn.Module):
    """The last layer of f and the embeddings are one matrix; the principal direction itself is not computed."""

    first_weight: Tensor  # (F, 2 F)
    first_bias: Tensor
    second_weight: Tensor  # (2 F, F / 2)
    second_bias: Tensor
    weight: Tensor  # (F / 2, N_t)
    bias: Tensor  # (N_t,)

    def __init__(self, model: Fast0Tag, graph: GraphTensors) -> None:
        super().__init__()
        unit = nn.functional.normalize(graph.target_embeddings)
        for name, layer in (("first", model.first), ("second", model.second)):
            keep(self, f"{name}_weight", layer.weight.T)
            keep(self, f"{name}_bias", layer.bias)
        keep(self, "weight", model.direction.weight.T @ unit.T)
        keep(self, "bias", unit @ model.direction.bias)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        hidden = (features @ self.first_weight + self.first_bias).relu()
        hidden = (hidden @ self.second_weight + self.second_bias).relu()
        return squash(hidden @ self.weight + self.bias)


class FoldedTrainingFree(nn.Module):
    """The likeness of labels and external classes is a constant: one matrix product."""

    likeness: Tensor  # (N_a, N_t)
    places: Tensor  # int64 (N_a,), among the backbone's logits

    def __init__(self, model: TrainingFree, graph: GraphTensors) -> None:
        super().__init__()
        keep(self, "likeness", model.similarity(graph))
        keep(self, "places", graph.external_logits)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        carried = logits.softmax(dim=1).index_select(1, self.places) @ self.likeness  # v, (B, N_t)
        return carried / (1 + carried)
