"""The relational graph network of section 3.4, which RGCN, RGCN-XL and RGCN-PosVAE share.

They differ in which nodes there are, where the nodes' states come from, and in what is learned beside eq. 8.
"""

from torch import Tensor, nn

from mlzsl.train.models.graph_tensors import GraphTensors
from mlzsl.train.models.layers import EdgeWeights, GraphConvolution, TargetEncoder, normalize
from mlzsl.train.models.model import Model


class RelationalGCN(Model):
    """A system that ends with graph layers over learned edge weights and an MLP on each node.

    States of nodes are kept node-major, (N, B, d): a graph layer is then one matrix product Â @ (N, B·d).

    Attributes:
        target_encoder: [x; s_y] -> the initial state of a node.
        edge_weights: Ŵ (eq. 7).
        graph_layers: eq. 6, one a layer.
        classifier_hidden, classifier_out: the final MLP.
    """

    target_encoder: TargetEncoder
    edge_weights: EdgeWeights
    graph_layers: nn.ModuleList
    classifier_hidden: nn.Linear
    classifier_out: nn.Linear

    def add_graph_network(self, embedding_dim: int, hidden_dim: int, layers: int) -> None:
        """Make edge weights, graph layers and the final MLP, with random values."""
        self.edge_weights = EdgeWeights(embedding_dim, hidden_dim)
        self.graph_layers = nn.ModuleList(GraphConvolution(hidden_dim, hidden_dim) for _ in range(layers))
        self.classifier_hidden = nn.Linear(hidden_dim, hidden_dim)
        self.classifier_out = nn.Linear(hidden_dim, 1)

    @property
    def graph_weights(self) -> list[Tensor]:
        """W^l of every graph layer, [d_h, d_h] each."""
        return [layer.weight for layer in self.graph_layers if isinstance(layer, GraphConvolution)]

    def normalized_adjacency(self, graph: GraphTensors) -> Tensor:
        """Â = normalize(Ŵ ⊙ A), [N, N]."""
        return normalize(self.edge_weights(graph))

    def classify(self, node_states: Tensor, graph: GraphTensors, rows: int) -> Tensor:
        """The graph layers, and the final MLP on the first `rows` nodes; H^0 (N, B, d_h) -> logits (B, rows)."""
        adjacency = self.normalized_adjacency(graph)
        for layer in self.graph_layers[:-1]:
            node_states = layer(adjacency, node_states)
        node_states = self.graph_layers[-1](adjacency[:rows], node_states)  # (rows, B, d_h)
        return self.classifier_out(self.classifier_hidden(node_states).relu()).squeeze(-1).T
