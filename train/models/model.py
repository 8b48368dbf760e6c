"""The interface of every model, and the tensors it takes: class graph, features, external probabilities, noise."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mlzsl.cli.errors import UsageError
from mlzsl.graph.classgraph import ClassGraph
from mlzsl.graph.overlap import LEAVE_OUT, Overlap
from mlzsl.graph.taxonomy import Taxonomy
from mlzsl.train.backbones.backbone import GAP, Pooling

Noise = Callable[[Tensor, int], Tensor]  # (states, their dimension of photos) -> z ~ N(0, 1) of the shape of states


def standard_normal(states: Tensor, photos_dim: int) -> Tensor:
    """z ~ N(0, 1) of the shape, dtype and device of `states`, from PyTorch's default generator."""
    return torch.randn_like(states)


@dataclass(frozen=True)
class GraphTensors:
    """A `ClassGraph` as tensors on one device. The target labels are the first nodes, external classes the rest.

    Attributes:
        embeddings: S, float [N, d_s].
        edges: int64 [2, E], the ordered pairs (u, v), u ≠ v, where the adjacency matrix A is 1, row by row.
        external_logits: int64 [N_a], the index of each external class in the backbone's logits.
        num_targets: N_t.
        is_a: int64 [2, K], the pairs (u, v) of targets, in both orders, of which one is a hypernym of the other.
    """

    embeddings: Tensor
    edges: Tensor
    external_logits: Tensor
    num_targets: int
    is_a: Tensor = field(default_factory=lambda: torch.empty(2, 0, dtype=torch.int64))

    @property
    def num_nodes(self) -> int:
        """N = N_t + N_a."""
        return self.embeddings.shape[0]

    @property
    def target_embeddings(self) -> Tensor:
        """The rows of S for the target labels, [N_t, d_s]."""
        return self.embeddings[: self.num_targets]

    @property
    def external_embeddings(self) -> Tensor:
        """The rows of S for the external classes, [N_a, d_s]."""
        return self.embeddings[self.num_targets :]

    def external_probabilities(self, logits: Tensor) -> Tensor:
        """p^a: the backbone's softmax over all its classes, at the external ones; [B, C] -> [B, N_a]."""
        return logits.softmax(dim=1)[:, self.external_logits]

    def double(self) -> "GraphTensors":
        """The same graph with float64 embeddings."""
        return replace(self, embeddings=self.embeddings.double())

    def to(self, device: torch.device) -> "GraphTensors":
        """The same graph on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("embeddings", "edges", "external_logits", "is_a")}
        return replace(self, **moved)

    @cached_property
    def without_externals(self) -> "GraphTensors":
        """The target nodes and the edges between them."""
        return replace(
            self,
            embeddings=self.target_embeddings,
            edges=self.edges[:, (self.edges < self.num_targets).all(dim=0)],
            external_logits=self.external_logits[:0],
        )


def graph_tensors(graph: ClassGraph) -> GraphTensors:
    """Convert a class graph to float32 tensors on the CPU."""
    edges = torch.empty(2, 0, dtype=torch.int64)
    if graph.adjacency is not None:
        edges = torch.from_numpy(graph.adjacency).clone().fill_diagonal_(False).nonzero().T.contiguous()
    return GraphTensors(
        embeddings=torch.from_numpy(graph.embeddings),
        edges=edges,
        external_logits=torch.from_numpy(graph.external_logits),
        num_targets=len(graph.targets),
        is_a=_is_a(graph.target_synsets),
    )


def _is_a(synsets: tuple[str | None, ...]) -> Tensor:
    taxonomy = Taxonomy.shipped()
    nodes_of: dict[int, list[int]] = {}
    for node, synset in enumerate(synsets):
        if synset is None:
            continue
        nodes_of.setdefault(taxonomy.index(synset), []).append(node)
    pairs = set()
    for index, below in nodes_of.items():
        for ancestor in taxonomy.ancestors(index).keys() - {index}:
            pairs |= {(u, v) for u in below for v in nodes_of.get(ancestor, [])}
    both_orders = sorted(pairs | {(v, u) for u, v in pairs})
    return torch.tensor(both_orders, dtype=torch.int64).reshape(-1, 2).T.contiguous()


@dataclass(frozen=True)
class ModelConfig:
    """The widths that every trained model has.

    Attributes:
        feature_dim: F, the width of the backbone's features x.
        embedding_dim: d_s, the width of class embeddings.
    """

    feature_dim: int
    embedding_dim: int


class Model(nn.Module, ABC):
    """Scores target labels from features x, external probabilities p^a and a class graph.

    The same parameters serve any graph: other labels, more labels, other external classes. In evaluation mode the
    scores of a photo depend on that photo alone.

    Attributes:
        name: the name in `--model`, checkpoints and manifests.
        fitted: whether anything of it depends on training photos.
        learns: whether it has parameters that gradient steps learn; a model without any is complete after `initialize`.
        uses_graph: whether it takes the edges of the class graph, so that every label needs a synset.
        pooling: which features the model takes: GAP, x [B, F], or DENSE, x and log q side by side [B, F + C]
            (`backbone.dense_log_probabilities`).
        overlap: whether its class graph keeps external classes that are labels, outside of experiments.
        needs_clip: whether backbone and embeddings have to be the two towers of one CLIP model.
        config_class: the frozen dataclass of its configuration, which has positive numbers only.
        config: its configuration.
    """

    name: ClassVar[str]
    fitted: ClassVar[bool] = True
    learns: ClassVar[bool] = True
    uses_graph: ClassVar[bool] = True
    pooling: ClassVar[Pooling] = GAP
    overlap: ClassVar[Overlap] = LEAVE_OUT
    needs_clip: ClassVar[bool] = False
    config_class: ClassVar[type]
    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def use_classifier(self, classifier: nn.Linear) -> None:
        """Take what the model needs of the backbone's classifier, [B, F] -> [B, C], in place, on a new model."""
        return

    def require_external_classes(self, graph: GraphTensors) -> None:
        """Check that the graph has external classes, for a model that scores unseen labels by them alone.

        Raises:
            UsageError: it has none.
        """
        if graph.num_nodes == graph.num_targets:
            raise UsageError(
                f"model {self.name}: needs external classes, but the label set contains all of the backbone's classes; "
                "choose other labels with --labels, or another --model."
            )

    @abstractmethod
    def forward(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """Features (B, F) or (B, F + C), p^a (B, N_a) -> scores (B, N_t) in [0, 1]; deterministic."""

    @abstractmethod
    def losses(
        self,
        features: Tensor,
        external_probabilities: Tensor,
        graph: GraphTensors,
        targets: Tensor,
        noise: Noise = standard_normal,
    ) -> dict[str, Tensor]:
        """The loss terms of a batch; "loss" is minimized. Each is a mean over photos.

        Args:
            features: float [B, F] or [B, F + C].
            external_probabilities: p^a, float [B, N_a].
            graph: the training graph: seen labels and external classes.
            targets: I(y), float [B, N_t], 1 where the photo has the label.
            noise: the source of all random numbers.
        """

    @classmethod
    def config_from_data(cls, external_probabilities: Tensor, backbone_classes: int) -> dict[str, float]:
        """Entries of the configuration that are computed from the training photos.

        Args:
            external_probabilities: p^a of the training photos, float32 [n, N_a].
            backbone_classes: C, the number of the backbone's classes.
        """
        return {}

    def initialize(
        self, graph: GraphTensors, features: Tensor, external_probabilities: Tensor, targets: Tensor
    ) -> None:
        """Set all that follows from the training data without gradient steps, in place, on a new model.

        For a model with learned parameters these are initial values; any other model is fitted in closed form here.

        Args:
            graph: the training graph.
            features: of the training photos, float32 [n, F] or [n, F + C].
            external_probabilities: p^a of the training photos, float32 [n, N_a].
            targets: I(y) of the training photos, float32 [n, N_t].

        Raises:
            UsageError: the model needs external classes and the graph has none.
        """
        return


class LogitModel(Model):
    """A model whose scores are sigmoids of logits, with binary cross-entropy as its loss."""

    @abstractmethod
    def logits(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """The logits of the scores; arguments and shape as in `forward`."""

    def forward(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """Features (B, F) or (B, F + C), p^a (B, N_a) -> scores (B, N_t) in [0, 1]."""
        return self.logits(features, external_probabilities, graph).sigmoid()

    def losses(
        self,
        features: Tensor,
        external_probabilities: Tensor,
        graph: GraphTensors,
        targets: Tensor,
        noise: Noise = standard_normal,
    ) -> dict[str, Tensor]:
        """Binary cross-entropy, the mean over labels and photos."""
        logits = self.logits(features, external_probabilities, graph)
        return {"loss": nn.functional.binary_cross_entropy_with_logits(logits, targets)}
