"""Fast0Tag: a photo is mapped to a direction in the space of class embeddings along which its labels rank first.

Zhang, Gong, Shah, "Fast Zero-Shot Image Tagging", 2016: a network of two hidden layers maps x to the principal
direction f(x), and f(x)·s_y ranks the labels. It is trained on pairs of a label p that the photo has and a label n that
it does not have, by the RankNet loss log(1 + exp(f(x)·s_n − f(x)·s_p)), a smooth triplet loss.

    x ── MLP ──► f(x) ── inner product with each s_y ── squash ──► scores
"""

import torch
from torch import Tensor, nn

from mlzsl.train.models.initialization import scale_features
from mlzsl.train.models.model import GraphTensors, Model, ModelConfig, Noise, standard_normal


class Fast0Tag(Model):
    """Labels ranked along f(x); s_y is normalized.

    The hidden layers have 2 F and F / 2 units, as Zhang et al. have 8,192 and 2,048 over 4,096 features.
    """

    name = "Fast0Tag"
    uses_graph = False
    config_class = ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        wide, narrow = 2 * config.feature_dim, max(config.feature_dim // 2, 1)
        self.first = nn.Linear(config.feature_dim, wide)
        self.second = nn.Linear(wide, narrow)
        self.direction = nn.Linear(narrow, config.embedding_dim)

    @torch.no_grad()
    def initialize(
        self, graph: GraphTensors, features: Tensor, external_probabilities: Tensor, targets: Tensor
    ) -> None:
        """Standardize the input of the first layer."""
        scale_features(self.first, features)

    def principal_direction(self, features: Tensor) -> Tensor:
        """f(x), (B, F) -> (B, d_s)."""
        return self.direction(self.second(self.first(features).relu()).relu())

    def ranks(self, features: Tensor, graph: GraphTensors) -> Tensor:
        """f(x)·s_y, (B, F) -> (B, N_t)."""
        unit = nn.functional.normalize(graph.target_embeddings)  # (N_t, d_s)
        return self.principal_direction(features) @ unit.T

    def forward(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """x (B, F) -> scores (B, N_t) in (0, 1)."""
        return squash(self.ranks(features, graph))

    def losses(
        self,
        features: Tensor,
        external_probabilities: Tensor,
        graph: GraphTensors,
        targets: Tensor,
        noise: Noise = standard_normal,
    ) -> dict[str, Tensor]:
        """RankNet: the mean over a photo's pairs (p, n), then the mean over photos that have pairs."""
        ranks = self.ranks(features, graph)
        pairs = targets[:, :, None] * (1 - targets[:, None, :])  # (B, p, n)
        counts = pairs.sum(dim=(1, 2))  # (B,), |Y_m| |Ȳ_m|
        margins = ranks[:, :, None] - ranks[:, None, :]
        photo_losses = (pairs * nn.functional.softplus(-margins)).sum(dim=(1, 2)) / counts.clamp_min(1)
        return {"loss": photo_losses.sum() / (counts > 0).sum().clamp_min(1)}


def squash(ranks: Tensor) -> Tensor:
    """(1 + r / (1 + |r|)) / 2: keeps the order of ranks, where a float32 sigmoid is 1 for every rank above 17."""
    return 0.5 + 0.5 * ranks / (1 + ranks.abs())
