"""Visual-semantic embedding: features projected into the space of class embeddings, which serve as classifiers.

Akata et al., "Label-Embedding for Attribute-Based Classification", 2013: a bilinear compatibility x^T W s_y. Huang et
al. 2020 (section 4.1, "Baselines") train it with binary cross-entropy on each class alone, and so does this.

    x ── linear ──► the space of S ── inner product with each s_y ── sigmoid ──► scores
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlzsl.train.models.graph_tensors import GraphTensors
from mlzsl.train.models.initialization import scale_features
from mlzsl.train.models.model import Model


@dataclass(frozen=True)
class VisualSemanticConfig:
    """Widths of the model.

    Attributes:
        feature_dim: F, the width of the backbone's features x.
        embedding_dim: d_s, the width of class embeddings.
    """

    feature_dim: int
    embedding_dim: int


class VisualSemantic(Model):
    """A linear map into the semantic space; s_y enters at length 1, so that no label gains by a long vector."""

    name = "visual-semantic"
    config_class = VisualSemanticConfig

    def __init__(self, config: VisualSemanticConfig) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Linear(config.feature_dim, config.embedding_dim)
        self.offset = nn.Parameter(torch.zeros(1))  # how rare a label is in the mean

    @torch.no_grad()
    def start(self, graph: GraphTensors, features: Tensor, external_probabilities: Tensor, targets: Tensor) -> None:
        """The projection sees features at mean 0 and deviation 1."""
        scale_features(self.projection, features)

    def forward(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """x (B, F) -> scores (B, N_t) in [0, 1]."""
        return self._logits(features, graph).sigmoid()

    def losses(
        self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors, targets: Tensor
    ) -> dict[str, Tensor]:
        """Binary cross-entropy, a mean over classes and photos."""
        return {"loss": nn.functional.binary_cross_entropy_with_logits(self._logits(features, graph), targets)}

    def _logits(self, features: Tensor, graph: GraphTensors) -> Tensor:
        unit = nn.functional.normalize(graph.target_embeddings)  # (N_t, d_s)
        return self.projection(features) @ unit.T + self.offset  # (B, N_t)
