"""The class graph as tensors: what every system takes beside a batch of photos."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mlzsl.graph.classgraph import ClassGraph


@dataclass(frozen=True)
class GraphTensors:
    """A `ClassGraph` on a device. Targets are the first nodes, external classes the rest.

    Attributes:
        embeddings: S, float [N, d_s].
        edges: int64 [2, E], the ordered pairs (u, v), u ≠ v, that the adjacency matrix A joins, by rows.
        external_logits: int64 [N_a], the place of each external class among the backbone's logits.
        targets: N_t, the number of target nodes.
    """

    embeddings: Tensor
    edges: Tensor
    external_logits: Tensor
    targets: int

    @property
    def nodes(self) -> int:
        """N, the number of all nodes."""
        return self.embeddings.shape[0]

    @property
    def target_embeddings(self) -> Tensor:
        """The rows of S for the target labels, [N_t, d_s]."""
        return self.embeddings[: self.targets]

    @property
    def external_embeddings(self) -> Tensor:
        """The rows of S for the external classes, [N_a, d_s]."""
        return self.embeddings[self.targets :]

    def external_probabilities(self, logits: Tensor) -> Tensor:
        """p^a: the backbone's softmax over all its classes, read at the external ones; [B, C] -> [B, N_a]."""
        return logits.softmax(dim=1)[:, self.external_logits]

    def double(self) -> "GraphTensors":
        """The same graph with embeddings in float64, for exact reference arithmetic."""
        return GraphTensors(self.embeddings.double(), self.edges, self.external_logits, self.targets)


def graph_tensors(graph: ClassGraph) -> GraphTensors:
    """Turn a class graph into float32 tensors on the CPU."""
    adjacency = torch.from_numpy(graph.adjacency).clone()
    adjacency.fill_diagonal_(False)
    return GraphTensors(
        embeddings=torch.from_numpy(graph.embeddings),
        edges=adjacency.nonzero().T.contiguous(),
        external_logits=torch.from_numpy(graph.external_logits),
        targets=len(graph.targets),
    )
