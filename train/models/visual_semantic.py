"""Visual-semantic embedding: features projected into the space of class embeddings, which serve as classifiers.

Akata et al., "Label-Embedding for Attribute-Based Classification", 2013: a bilinear compatibility x^T W s_y. Huang et
al. 2020 (section 4.1, "Baselines") train it with binary cross-entropy on each class, and so does this module.

    x ── linear ──► the space of S ── inner product with each s_y ── sigmoid ──► scores
"""

import torch
from torch import Tensor, nn

from mlzsl.train.models.initialization import scale_features
from mlzsl.train.models.model import GraphTensors, LogitModel, ModelConfig


class VisualSemantic(LogitModel):
    """A linear map into the semantic space; s_y is normalized, so that its length does not change the score."""

    name = "visual-semantic"
    uses_graph = False
    config_class = ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.projection = nn.Linear(config.feature_dim, config.embedding_dim)
        self.offset = nn.Parameter(torch.zeros(1))  # b₀: how rare labels are on average

    @torch.no_grad()
    def initialize(
        self, graph: GraphTensors, features: Tensor, external_probabilities: Tensor, targets: Tensor
    ) -> None:
        """Standardize the input of the projection."""
        scale_features(self.projection, features)

    def logits(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """s_y · (W x + b) + b₀; x (B, F) -> (B, N_t)."""
        unit = nn.functional.normalize(graph.target_embeddings)  # (N_t, d_s)
        return self.projection(features) @ unit.T + self.offset
