"""The class graph as tensors: what every system takes beside a batch of photos."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from mlzsl.graph.classgraph import ClassGraph
from mlzsl.graph.taxonomy import Taxonomy


@dataclass(frozen=True)
class GraphTensors:
    """A `ClassGraph` on a device. Targets are the first nodes, external classes the rest.

    Attributes:
        embeddings: S, float [N, d_s].
        edges: int64 [2, E], the ordered pairs (u, v), u ≠ v, that the adjacency matrix A joins, by rows.
        external_logits: int64 [N_a], the place of each external class among the backbone's logits.
        targets: N_t, the number of target nodes.
        is_a: int64 [2, K], the pairs (u, v) of targets, both ways round, of which one lies above the other in WordNet.
    """

    embeddings: Tensor
    edges: Tensor
    external_logits: Tensor
    targets: int
    is_a: Tensor = field(default_factory=lambda: torch.empty(2, 0, dtype=torch.int64))

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
        return replace(self, embeddings=self.embeddings.double())

    @cached_property
    def without_externals(self) -> "GraphTensors":
        """The target nodes alone, with the edges among them."""
        return replace(
            self,
            embeddings=self.target_embeddings,
            edges=self.edges[:, (self.edges < self.targets).all(dim=0)],
            external_logits=self.external_logits[:0],
        )


def graph_tensors(graph: ClassGraph) -> GraphTensors:
    """Turn a class graph into float32 tensors on the CPU."""
    adjacency = torch.from_numpy(graph.adjacency).clone()
    adjacency.fill_diagonal_(False)
    return GraphTensors(
        embeddings=torch.from_numpy(graph.embeddings),
        edges=adjacency.nonzero().T.contiguous(),
        external_logits=torch.from_numpy(graph.external_logits),
        targets=len(graph.targets),
        is_a=_is_a(graph.target_synsets),
    )


def _is_a(synsets: tuple[str, ...]) -> Tensor:
    taxonomy = Taxonomy.shipped()
    nodes_of: dict[int, list[int]] = {}
    for node, synset in enumerate(synsets):
        nodes_of.setdefault(taxonomy.index(synset), []).append(node)
    pairs = set()
    for place, below in nodes_of.items():
        for ancestor in taxonomy.ancestors(place).keys() - {place}:
            pairs |= {(u, v) for u in below for v in nodes_of.get(ancestor, [])}
    both_ways = sorted(pairs | {(v, u) for u, v in pairs})
    return torch.tensor(both_ways, dtype=torch.int64).reshape(-1, 2).T.contiguous()
