"""RGCN, the paper's model without external classes (section 4.1, "Baselines").

    x with s_y for each target y ── TargetEncoder ──► H ── RGCN layers ── MLP ──► scores

The backbone's probabilities are not looked at.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlzsl.train.models.graph_tensors import GraphTensors
from mlzsl.train.models.initialization import fit_edges_to_similarity, scale_embeddings, scale_features
from mlzsl.train.models.layers import TargetEncoder
from mlzsl.train.models.relational_gcn import RelationalGCN


@dataclass(frozen=True)
class RGCNConfig:
    """Widths of the model; the defaults are the paper's (section 4.1).

    Attributes:
        feature_dim: F, the width of the backbone's features x.
        embedding_dim: d_s, the width of class embeddings.
        hidden_dim: d_h, the width of node states and of every hidden layer.
        layers: the number of RGCN layers.
    """

    feature_dim: int
    embedding_dim: int
    hidden_dim: int = 256
    layers: int = 2


class RGCN(RelationalGCN):
    """The graph network over target labels alone."""

    name = "RGCN"
    config_class = RGCNConfig

    def __init__(self, config: RGCNConfig) -> None:
        super().__init__()
        self.config = config
        d_h = config.hidden_dim
        self.target_encoder = TargetEncoder(config.feature_dim, config.embedding_dim, d_h, d_h)
        self.add_graph_network(config.embedding_dim, config.hidden_dim, config.layers)

    def start(self, graph: GraphTensors, features: Tensor, external_probabilities: Tensor, targets: Tensor) -> None:
        """Inputs at one scale, and edges that follow similarity."""
        with torch.no_grad():
            scale_features(self.target_encoder.hidden, features)
            scale_embeddings((self.target_encoder.hidden,), self.nodes(graph).embeddings)
        fit_edges_to_similarity(self.edge_weights, self.nodes(graph).embeddings)

    def forward(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """x (B, F) -> scores (B, N_t) in [0, 1]."""
        return self.logits(features, graph, rows=graph.targets).sigmoid()

    def losses(
        self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors, targets: Tensor
    ) -> dict[str, Tensor]:
        """L_RGCN of eq. 8."""
        logits = self.logits(features, graph, rows=graph.targets)
        return {"loss": nn.functional.binary_cross_entropy_with_logits(logits, targets)}

    def nodes(self, graph: GraphTensors) -> GraphTensors:
        """The classes that take part: the targets."""
        return graph.without_externals

    def logits(self, features: Tensor, graph: GraphTensors, rows: int) -> Tensor:
        """x (B, F) -> the logits of the first `rows` classes, (B, rows)."""
        nodes = self.nodes(graph)
        return self.classify(self.target_encoder(features, nodes.embeddings), nodes, rows)
