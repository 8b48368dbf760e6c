"""Layers that several systems are built from."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mlzsl.train.models.graph_tensors import GraphTensors

EDGES_AT_ONCE = 1 << 12  # the hidden layer of the edge MLP, [edges, 256] floats, then stays in the cache


class ConcatLinear(nn.Linear):
    """A linear layer over a concatenation [a; b] that never builds it: W [a; b] + β = W_a a + (W_b b + β).

    `a` (..., d_a) and `b` (..., d_b) broadcast against each other after the product, so that a photo's features
    and a label's embedding are each multiplied once, not once for every pair of photo and label.
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
    """H = MLP([x; s_y]): the initial states of nodes whose classes are to be told of a photo (section 3.2)."""

    def __init__(self, feature_dim: int, embedding_dim: int, hidden_dim: int, state_dim: int) -> None:
        super().__init__()
        self.hidden = ConcatLinear(feature_dim, embedding_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim, state_dim)

    def forward(self, features: Tensor, embeddings: Tensor) -> Tensor:
        """x (B, F), S (n, d_s) -> H (n, B, state_dim)."""
        return self.out(self.hidden(features, embeddings[:, None]).relu())


class EdgeWeights(nn.Module):
    """Ŵ of the relational GCN (eq. 7): w_uv = MLP(s_u, s_v) in [0, 1] for each edge, 1 on the diagonal.

    A two-layer MLP with a sigmoid at the end. Only edges are evaluated: elsewhere A is 0.
    """

    def __init__(self, embedding_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.hidden = ConcatLinear(embedding_dim, embedding_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim, 1)

    def forward(self, graph: GraphTensors) -> Tensor:
        """Return Ŵ ⊙ A, [N, N]."""
        S = graph.embeddings
        from_u = nn.functional.linear(S, self.hidden.first_weight)  # (N, d_h)
        from_v = nn.functional.linear(S, self.hidden.second_weight, self.hidden.bias)  # (N, d_h)
        weights = [
            checkpoint(self._of_edges, from_u, from_v, edges, use_reentrant=False)
            for edges in graph.edges.split(EDGES_AT_ONCE, dim=1)
        ]
        W = torch.eye(graph.nodes, dtype=S.dtype, device=S.device)
        return W.index_put((graph.edges[0], graph.edges[1]), torch.cat(weights).to(W.dtype)) if weights else W

    def _of_edges(self, from_u: Tensor, from_v: Tensor, edges: Tensor) -> Tensor:
        hidden = (from_u.index_select(0, edges[0]) + from_v.index_select(0, edges[1])).relu()  # (edges, d_h)
        return self.out(hidden).sigmoid().squeeze(1)


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
        """Â (M, N), H (N, B, d) -> (M, B, d'): fewer rows of Â give the states of just those nodes."""
        if len(adjacency) < len(node_states):  # (Â H) W, where that is fewer products than Â (H W)
            return (_propagate(adjacency, node_states) @ self.weight).relu()
        return _propagate(adjacency, node_states @ self.weight).relu()


def _propagate(adjacency: Tensor, node_states: Tensor) -> Tensor:
    """Â (M, N), (N, B, d) -> (M, B, d) as one matrix product."""
    return (adjacency @ node_states.flatten(1)).unflatten(1, node_states.shape[1:])
