"""Fast0Tag: a photo becomes a direction in the space of class embeddings along which its labels come first.

Zhang, Gong, Shah, "Fast Zero-Shot Image Tagging", 2016: a network of two hidden layers maps x to the principal
direction f(x), and f(x)·s_y ranks the labels. It is trained on pairs of a label p that the photo has and a label n that
it has not, by the RankNet loss log(1 + exp(f(x)·s_n − f(x)·s_p)), a smooth triplet loss.

    x ── MLP ──► f(x) ── inner product with each s_y ── squash ──► scores
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlzsl.train.models.graph_tensors import GraphTensors
from mlzsl.train.models.initialization import scale_features
from mlzsl.train.models.model import Model


@dataclass(frozen=True)
class Fast0TagConfig:
    """Widths of the model.

    Attributes:
        feature_dim: F, the width of the backbone's features x; the hidden layers have 2 F and F / 2 units, as Zhang et
            al. have 8,192 and 2,048 over 4,096 features.
        embedding_dim: d_s, the width of class embeddings.
    """

    feature_dim: int
    embedding_dim: int


class Fast0Tag(Model):
    """A ranking of labels along f(x); s_y enters at length 1."""

    name = "Fast0Tag"
    config_class = Fast0TagConfig

    def __init__(self, config: Fast0TagConfig) -> None:
        super().__init__()
        self.config = config
        wide, narrow = 2 * config.feature_dim, max(config.feature_dim // 2, 1)
        self.first = nn.Linear(config.feature_dim, wide)
        self.second = nn.Linear(wide, narrow)
        self.direction = nn.Linear(narrow, config.embedding_dim)

    @torch.no_grad()
    def start(self, graph: GraphTensors, features: Tensor, external_probabilities: Tensor, targets: Tensor) -> None:
        """The first layer sees features at mean 0 and deviation 1."""
        scale_features(self.first, features)

    def principal_direction(self, features: Tensor) -> Tensor:
        """f(x), (B, F) -> (B, d_s)."""
        return self.direction(self.second(self.first(features).relu()).relu())

    def forward(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """x (B, F) -> scores (B, N_t) in (0, 1)."""
        return squash(self._ranks(features, graph))

    def losses(
        self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors, targets: Tensor
    ) -> dict[str, Tensor]:
        """RankNet: for each photo the mean over its pairs (p, n), then the mean over photos that have pairs."""
        ranks = self._ranks(features, graph)
        pairs = targets[:, :, None] * (1 - targets[:, None, :])  # (B, p, n)
        counts = pairs.sum(dim=(1, 2))  # (B,), |Y_m| |Ȳ_m|
        margins = ranks[:, :, None] - ranks[:, None, :]
        of_photos = (pairs * nn.functional.softplus(-margins)).sum(dim=(1, 2)) / counts.clamp_min(1)
        return {"loss": of_photos.sum() / (counts > 0).sum().clamp_min(1)}

    def _ranks(self, features: Tensor, graph: GraphTensors) -> Tensor:
        unit = nn.functional.normalize(graph.target_embeddings)  # (N_t, d_s)
        return self.principal_direction(features) @ unit.T  # (B, N_t)


def squash(ranks: Tensor) -> Tensor:
    """(1 + r / (1 + |r|)) / 2: keeps the order of ranks where a sigmoid in float32 would call all beyond 17 equal."""
    return 0.5 + 0.5 * ranks / (1 + ranks.abs())
