"""RGCN, the paper's model without external classes (section 4.1, "Baselines").

    x with s_y for each target y ── TargetEncoder ──► H ── RGCN layers ── MLP ──► scores

The backbone's probabilities are not used.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mlzsl.train.models.initialization import fit_edges_to_similarity, scale_embeddings, scale_features
from mlzsl.train.models.layers import RelationalGCN, TargetEncoder
from mlzsl.train.models.model import GraphTensors, ModelConfig


@dataclass(frozen=True)
class RGCNConfig(ModelConfig):
    """Widths of the model; the defaults are the paper's (section 4.1).

    Attributes:
        hidden_dim: d_h, the width of node states and of every hidden layer.
        layers: the number of RGCN layers.
    """

    hidden_dim: int = 256
    layers: int = 2


class RGCN(RelationalGCN):
    """The graph network over target labels alone."""

    name = "RGCN"
    config_class = RGCNConfig

    def __init__(self, config: RGCNConfig) -> None:
        super().__init__(config)
        d_h = config.hidden_dim
        self.target_encoder = TargetEncoder(config.feature_dim, config.embedding_dim, d_h, d_h)
        self.add_graph_network(config.embedding_dim, config.hidden_dim, config.layers)

    def initialize(
        self, graph: GraphTensors, features: Tensor, external_probabilities: Tensor, targets: Tensor
    ) -> None:
        """Standardize inputs and fit the edge weights to similarity."""
        nodes = self.subgraph(graph)
        with torch.no_grad():
            scale_features(self.target_encoder.hidden, features)
            scale_embeddings((self.target_encoder.hidden,), nodes.embeddings)
        fit_edges_to_similarity(self.edge_weights, nodes.embeddings)

    def subgraph(self, graph: GraphTensors) -> GraphTensors:
        """The classes that are nodes of the network: the targets."""
        return graph.without_externals

    def node_logits(self, features: Tensor, graph: GraphTensors, rows: int) -> Tensor:
        """x (B, F) -> the logits of the first `rows` classes, (B, rows)."""
        nodes = self.subgraph(graph)
        return self.classify(self.target_encoder(features, nodes.embeddings), nodes, rows)

    def logits(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """x (B, F) -> (B, N_t); their binary cross-entropy is L_RGCN of eq. 8."""
        return self.node_logits(features, graph, rows=graph.num_targets)
