"""RGCN and RGCN-XL, the paper's model without the PosVAE (section 4.1, "Baselines").

    x with s_y for each class y ── TargetEncoder ──► H ── RGCN layers ── MLP ──► scores, and p̂ of external classes

RGCN has no external classes; RGCN-XL treats them like targets. The backbone's probabilities are no input.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlzsl.train.models.initialization import fit_edges_to_similarity, scale_embeddings, scale_features
from mlzsl.train.models.layers import RelationalGCN, TargetEncoder
from mlzsl.train.models.model import GraphTensors, ModelConfig, Noise, standard_normal


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


@dataclass(frozen=True)
class RGCNXLConfig(RGCNConfig):
    """RGCN's widths, and one weight.

    Attributes:
        external_weight: of the mean-square error relative to the cross-entropy; the paper states none.
    """

    external_weight: float = 1.0


class RGCNXL(RGCN):
    """The graph network over target and external classes, all with initial states from the photo's features.

    External classes have no labels: their outputs are trained with a mean-square error towards the probabilities of the
    ImageNet classifier, which are a training target and no input.
    """

    name = "RGCN-XL"
    config_class = RGCNXLConfig
    config: RGCNXLConfig

    def subgraph(self, graph: GraphTensors) -> GraphTensors:
        """All classes."""
        return graph

    def losses(
        self,
        features: Tensor,
        external_probabilities: Tensor,
        graph: GraphTensors,
        targets: Tensor,
        noise: Noise = standard_normal,
    ) -> dict[str, Tensor]:
        """L_RGCN of eq. 8 on targets, and the mean-square error on external classes."""
        logits = self.node_logits(features, graph, rows=graph.num_nodes)  # (B, N)
        target_logits, external_logits = logits[:, : graph.num_targets], logits[:, graph.num_targets :]
        rgcn = nn.functional.binary_cross_entropy_with_logits(target_logits, targets)
        if external_logits.shape[1] == 0:
            return {"loss": rgcn, "rgcn": rgcn}
        external = nn.functional.mse_loss(external_logits.sigmoid(), external_probabilities)
        return {"loss": rgcn + self.config.external_weight * external, "rgcn": rgcn, "external": external}
