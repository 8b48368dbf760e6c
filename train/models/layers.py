"""Layers that several models share, and the relational graph network of section 3.4."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mlzsl.train.models.model import GraphTensors, LogitModel

EDGES_PER_CHUNK = 1 << 12  # the hidden layer of the edge MLP, [edges, 256] floats, then stays in the CPU cache


class ConcatLinear(nn.Linear):
    """A linear layer over a concatenation [a; b] that is never built: W [a; b] + β = W_a a + (W_b b + β).

    `a` (..., d_a) and `b` (..., d_b) are broadcast after the product, so the features of a photo and the embedding of a
    label are each multiplied once instead of once per pair of photo and label.
    """

    def __init__(self, first: int, second: int, out: int) -> None:
        super().__init__(first + second, out)
        self.first = first

    @property
    def first_weight(self) -> Tensor:
        """W_a, [out, d_a]."""
        return self.weight[:, : self.first]

    @property
    def second_weight(self) -> Tensor:
        """W_b, [out, d_b]."""
        return self.weight[:, self.first :]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:  # type: ignore[override]
        return nn.functional.linear(a, self.first_weight) + nn.functional.linear(b, self.second_weight, self.bias)


class TargetEncoder(nn.Module):
    """H = MLP([x; s_y]): the initial states of target nodes (section 3.2)."""

    def __init__(self, feature_dim: int, embedding_dim: int, hidden_dim: int, state_dim: int) -> None:
        super().__init__()
        self.hidden = ConcatLinear(feature_dim, embedding_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim, state_dim)

    def forward(self, features: Tensor, embeddings: Tensor) -> Tensor:
        """x (B, F), S (n, d_s) -> H (n, B, state_dim)."""
        return self.out(self.hidden(features, embeddings[:, None]).relu())


class PairMLP(nn.Module):
    """MLP([s_u; s_v]), one number for a pair of classes; the first layer multiplies each embedding once."""

    def __init__(self, embedding_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.hidden = ConcatLinear(embedding_dim, embedding_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim, 1)

    def forward(self, embeddings: Tensor, pairs: Tensor) -> Tensor:
        """S (N, d_s), pairs int64 (2, P) -> (P,)."""
        return self.of_pairs(*self.first_layer(embeddings), pairs)

    def first_layer(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """The terms of s_u and of s_v in the first layer; S (N, d_s) -> 2 × (N, d_h)."""
        from_v = nn.functional.linear(embeddings, self.hidden.second_weight, self.hidden.bias)
        return nn.functional.linear(embeddings, self.hidden.first_weight), from_v

    def of_pairs(self, from_u: Tensor, from_v: Tensor, pairs: Tensor) -> Tensor:
        """The terms of `first_layer`, pairs int64 (2, P) -> (P,)."""
        hidden = (from_u.index_select(0, pairs[0]) + from_v.index_select(0, pairs[1])).relu()  # (P, d_h)
        return self.out(hidden).squeeze(1)


class EdgeWeights(PairMLP):
    """Ŵ of the relational GCN (eq. 7): w_uv = σ(MLP([s_u; s_v])) for each edge, 1 on the diagonal.

    It is evaluated at edges only, as A is 0 elsewhere.
    """

    def forward(self, graph: GraphTensors) -> Tensor:  # type: ignore[override]
        """Return Ŵ ⊙ A, [N, N]."""
        S = graph.embeddings
        from_u, from_v = self.first_layer(S)
        weights = [
            checkpoint(self.of_pairs, from_u, from_v, edges, use_reentrant=False).sigmoid()
            for edges in graph.edges.split(EDGES_PER_CHUNK, dim=1)
        ]
        W = torch.eye(graph.num_nodes, dtype=S.dtype, device=S.device)
        return W.index_put((graph.edges[0], graph.edges[1]), torch.cat(weights).to(W.dtype)) if weights else W


def normalize(weights: Tensor) -> Tensor:
    """Â = D^-½ (Ŵ ⊙ A) D^-½ with D the diagonal of row sums (Kipf and Welling); [N, N] -> [N, N]."""
    inverse_root = weights.sum(dim=1).rsqrt()  # self-connections make every sum at least 1
    return inverse_root[:, None] * weights * inverse_root[None, :]


class GraphConvolution(nn.Module):
    """One graph layer (eq. 6): H^{l+1} = ReLU(Â H^l W^l), without a bias, as in the paper."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_dim, out_dim))  # W^l
        nn.init.xavier_uniform_(self.weight)

    def forward(self, adjacency: Tensor, node_states: Tensor) -> Tensor:
        """Â (M, N), H (N, B, d) -> (M, B, d'): the states of the M nodes whose rows of Â are given."""
        if len(adjacency) < len(node_states):  # (Â H) W, which then has fewer products than Â (H W)
            return (_propagate(adjacency, node_states) @ self.weight).relu()
        return _propagate(adjacency, node_states @ self.weight).relu()


def _propagate(adjacency: Tensor, node_states: Tensor) -> Tensor:
    """Â (M, N), (N, B, d) -> (M, B, d) as one matrix product."""
    return (adjacency @ node_states.flatten(1)).unflatten(1, node_states.shape[1:])


class RelationalGCN(LogitModel):
    """Graph layers over learned edge weights, then an MLP on each node: shared by RGCN, RGCN-XL and RGCN-PosVAE.

    They differ in their nodes, in the initial states of the nodes, and in the losses besides eq. 8. Node states are
    node-major, (N, B, d): a graph layer is one matrix product Â @ (N, B·d).

    Attributes:
        target_encoder: [x; s_y] -> the initial state of a node.
        edge_weights: Ŵ (eq. 7).
        graph_layers: eq. 6.
        classifier_hidden, classifier_out: the final MLP.
    """

    target_encoder: TargetEncoder

    def add_graph_network(self, embedding_dim: int, hidden_dim: int, layers: int) -> None:
        """Create edge weights, graph layers and the final MLP with random parameters."""
        self.edge_weights = EdgeWeights(embedding_dim, hidden_dim)
        self.graph_layers = nn.ModuleList(GraphConvolution(hidden_dim, hidden_dim) for _ in range(layers))
        self.classifier_hidden = nn.Linear(hidden_dim, hidden_dim)
        self.classifier_out = nn.Linear(hidden_dim, 1)

    @property
    def graph_weights(self) -> list[Tensor]:
        """W^l of each graph layer, [d_h, d_h]."""
        return [layer.weight for layer in self.graph_layers if isinstance(layer, GraphConvolution)]

    def normalized_adjacency(self, graph: GraphTensors) -> Tensor:
        """Â = normalize(Ŵ ⊙ A), [N, N]."""
        return normalize(self.edge_weights(graph))

    def classify(self, node_states: Tensor, graph: GraphTensors, rows: int) -> Tensor:
        """The graph layers, then the final MLP on the first `rows` nodes; H^0 (N, B, d_h) -> logits (B, rows)."""
        adjacency = self.normalized_adjacency(graph)
        for layer in self.graph_layers[:-1]:
            node_states = layer(adjacency, node_states)
        node_states = self.graph_layers[-1](adjacency[:rows], node_states)  # (rows, B, d_h)
        return self.classifier_out(self.classifier_hidden(node_states).relu()).squeeze(-1).T
