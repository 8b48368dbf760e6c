"""The class graph (paper, section 3.2): target and external classes, their embeddings, and edges by WUP similarity."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mlzsl.cli.errors import UsageError
from mlzsl.graph.embeddings.source import Embeddings, Origin
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.graph.overlap import KEEP, LEAVE_OUT, Overlap, SharedClass, shared_classes
from mlzsl.graph.taxonomy import Taxonomy
from mlzsl.graph.wup import wup_adjacency

THRESHOLD = 0.5  # the paper's, section 4.1


@dataclass(frozen=True, eq=False)
class ClassGraph:
    """Nodes and edges; nodes are the targets, then the external classes. N = N_t + N_a."""

    targets: tuple[str, ...]  # Y, [N_t]
    target_synsets: tuple[str | None, ...]  # [N_t]; a label without a synset has no edge but to itself
    seen: NDArray[np.bool_]  # [N_t], whether a target has training labels
    externals: tuple[str, ...]  # Y^a, [N_a]
    external_synsets: tuple[str | None, ...]  # [N_a]
    external_logits: NDArray[np.int64]  # [N_a], index of each external class in the backbone's logits
    embeddings: NDArray[np.float32]  # S, [N, d_s]
    origins: tuple[Origin, ...]  # [N], how each embedding was found
    adjacency: NDArray[np.bool_] | None  # A, [N, N], symmetric, with self-connections; None without edges
    threshold: float  # an edge connects classes whose WUP similarity is greater
    sources: dict[str, str]  # names and hashes: label set, external label set, taxonomy, embeddings
    shared: tuple[SharedClass, ...] = ()  # external classes that are labels
    left_out: tuple[SharedClass, ...] = ()  # those of them that are not nodes

    @property
    def nodes(self) -> int:
        """N, the number of targets and externals."""
        return len(self.embeddings)

    @property
    def edges(self) -> int:
        """The number of edges between different nodes."""
        return 0 if self.adjacency is None else (int(np.count_nonzero(self.adjacency)) - self.nodes) // 2

    @property
    def target_neighbours(self) -> NDArray[np.int64]:
        """[N]: how many other targets each node has an edge to."""
        counts = self._neighbours(slice(None, len(self.targets)))
        counts[: len(self.targets)] -= 1
        return counts

    @property
    def external_neighbours(self) -> NDArray[np.int64]:
        """[N]: how many other external classes each node has an edge to."""
        counts = self._neighbours(slice(len(self.targets), None))
        counts[len(self.targets) :] -= 1
        return counts

    def _neighbours(self, columns: slice) -> NDArray[np.int64]:
        """[N]: how many of the columns' classes each node has an edge to, itself included."""
        if self.adjacency is None:
            raise ValueError("the class graph was built without edges")
        counts: NDArray[np.int64] = self.adjacency[:, columns].sum(axis=1)
        return counts

    def training(self) -> "ClassGraph":
        """The graph of training: seen targets and external classes, without the unseen targets."""
        if self.seen.all():
            return self
        targets = np.flatnonzero(self.seen)
        kept = np.concatenate([targets, np.arange(len(self.targets), self.nodes)])
        return replace(
            self,
            targets=tuple(self.targets[node] for node in targets),
            target_synsets=tuple(self.target_synsets[node] for node in targets),
            seen=self.seen[targets],
            embeddings=self.embeddings[kept],
            origins=tuple(self.origins[node] for node in kept),
            adjacency=None if self.adjacency is None else self.adjacency[np.ix_(kept, kept)],
        )

    def fallbacks(self) -> tuple[str, ...]:
        """A sentence for each target whose vector is that of a synonym or hypernym."""
        return tuple(
            f"the label {label!r} has no vector in {self.sources['embeddings']}; "
            f"the vector of its {origin.how} {origin.via!r} is used."
            for label, origin in zip(self.targets, self.origins, strict=False)
            if origin.is_fallback
        )


def build_class_graph(
    labels: LabelSet,
    seen: Collection[str],
    external: LabelSet,
    embeddings: Embeddings,
    threshold: float = THRESHOLD,
    overlap: Overlap = LEAVE_OUT,
    most_externals: int | None = None,
    edges: bool = True,
) -> ClassGraph:
    """Build the graph of target and external classes, with an edge where WUP similarity is greater than `threshold`.

    Edges are symmetric: there is one if the similarity is greater in either direction, as nltk's WUP breaks some ties
    by order. Of more than `most_externals` external classes those remain whose vectors have the greatest cosine with
    the vector of a label.

    Args:
        labels: the target labels Y, in output order.
        seen: those of them that have training labels.
        external: the backbone's classes, in the order of its logits.
        embeddings: the source of the vectors.
        threshold: in [0, 1].
        overlap: whether external classes that are labels are kept; the paper leaves them out.
        most_externals: the largest number of external classes; None for all.
        edges: False for a model without edges: A, whose size is that of all pairs of classes, is not computed.

    Raises:
        UsageError: a seen label is not a target, the threshold is out of range, or a label has no vector.
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"the WUP threshold is {threshold}; it must lie between 0 and 1.")
    if unknown := sorted(set(seen) - set(labels.labels)):
        raise UsageError(f"{', '.join(unknown)}: seen, but not in the label set {labels.name}.")
    taxonomy = Taxonomy.shipped()
    seen = set(seen)
    shared = shared_classes(labels, external, overlap)
    left_out = () if overlap == KEEP else shared
    kept = np.setdiff1d(np.arange(len(external)), [each.external for each in left_out])
    rest = external.take(kept)
    embeddings.preload(labels, rest)
    target_vectors = embeddings.embed(labels, "target")
    external_vectors = embeddings.embed(rest, "external")
    if most_externals is not None and len(rest) > most_externals:
        nearest = _nearest(external_vectors.vectors, target_vectors.vectors, most_externals)
        kept, rest, external_vectors = kept[nearest], rest.take(nearest), external_vectors.take(nearest)
    adjacency = None
    if edges:
        similar = wup_adjacency(taxonomy, labels.synsets + rest.synsets, threshold)
        adjacency = similar | similar.T
        np.fill_diagonal(adjacency, True)  # WUP of a synset with itself can be below 1, even below the threshold
    return ClassGraph(
        targets=labels.labels,
        target_synsets=labels.synsets,
        seen=np.array([label in seen for label in labels.labels], np.bool_),
        externals=rest.labels,
        external_synsets=rest.synsets,
        external_logits=kept.astype(np.int64),
        embeddings=np.concatenate([target_vectors.vectors, external_vectors.vectors]),
        origins=target_vectors.origins + external_vectors.origins,
        adjacency=adjacency,
        threshold=threshold,
        sources={
            "labels": labels.name,
            "labels_sha256": labels.sha256,
            "external": external.name,
            "external_sha256": external.sha256,
            "taxonomy": "WordNet 3.0 nouns",
            "taxonomy_sha256": taxonomy.sha256,
            "embeddings": embeddings.source.name,
            "embeddings_sha256": embeddings.source.sha256,
        },
        shared=shared,
        left_out=left_out,
    )


def _nearest(externals: NDArray[np.float32], targets: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The indices, ascending, of the `count` external classes of the greatest cosine with any target."""
    smallest = np.finfo(np.float32).tiny
    unit_externals, unit_targets = (
        each / np.linalg.norm(each, axis=1, keepdims=True).clip(smallest) for each in (externals, targets)
    )
    closest = (unit_externals @ unit_targets.T).max(axis=1)
    return np.sort(np.argsort(-closest, kind="stable")[:count])
