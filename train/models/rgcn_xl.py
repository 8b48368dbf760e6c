"""RGCN-XL, the paper's model with external classes treated like targets (section 4.1, "Baselines").

    x with s_y for every class y ── TargetEncoder ──► H ── RGCN layers ── MLP ──► scores, and p̂ of external classes

External classes have no labels: what is learned of them is to say what the ImageNet classifier says, by a mean-square
error. Its probabilities are the goal of the training and no input.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlzsl.train.models.layers import TargetEncoder
from mlzsl.train.models.relational_gcn import RelationalGCN
from mlzsl.train.models.starting import fit_edges_to_similarity, scale_embeddings, scale_features
from mlzsl.train.models.tensors import GraphTensors


@dataclass(frozen=True)
class RGCNXLConfig:
    """Widths of the model; the defaults are the paper's (section 4.1).

    Attributes:
        feature_dim: F, the width of the backbone's features x.
        embedding_dim: d_s, the width of class embeddings.
        hidden_dim: d_h, the width of node states and of every hidden layer.
        layers: the number of RGCN layers.
        external_weight: of the mean-square error beside the cross-entropy; the paper names none.
    """

    feature_dim: int
    embedding_dim: int
    hidden_dim: int = 256
    layers: int = 2
    external_weight: float = 1.0


class RGCNXL(RelationalGCN):
    """The graph network over target and external classes that all start from the photo's features."""

    system = "RGCN-XL"
    config_class = RGCNXLConfig

    def __init__(self, config: RGCNXLConfig) -> None:
        super().__init__()
        self.config = config
        d_h = config.hidden_dim
        self.target_encoder = TargetEncoder(config.feature_dim, config.embedding_dim, d_h, d_h)
        self.add_graph_network(config.embedding_dim, config.hidden_dim, config.layers)

    def start(self, graph: GraphTensors, features: Tensor, external_probabilities: Tensor) -> None:
        """Inputs at one scale, and edges that follow similarity."""
        with torch.no_grad():
            scale_features(self.target_encoder.hidden, features)
            scale_embeddings((self.target_encoder.hidden,), graph.embeddings)
        fit_edges_to_similarity(self.edge_weights, graph.embeddings)

    def forward(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """x (B, F) -> scores (B, N_t) in [0, 1]."""
        return self._logits(features, graph, rows=graph.targets).sigmoid()

    def losses(
        self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors, truths: Tensor
    ) -> dict[str, Tensor]:
        """L_RGCN of eq. 8 on targets, and the mean-square error on external classes."""
        logits = self._logits(features, graph, rows=graph.nodes)  # (B, N)
        targets, externals = logits[:, : graph.targets], logits[:, graph.targets :]
        rgcn = nn.functional.binary_cross_entropy_with_logits(targets, truths)
        if externals.shape[1] == 0:
            return {"loss": rgcn, "rgcn": rgcn}
        external = nn.functional.mse_loss(externals.sigmoid(), external_probabilities)
        return {"loss": rgcn + self.config.external_weight * external, "rgcn": rgcn, "external": external}

    def _logits(self, features: Tensor, graph: GraphTensors, rows: int) -> Tensor:
        states = self.target_encoder(features, graph.embeddings)  # H^0, (N, B, d_h)
        return self.classify(states, graph, rows)
