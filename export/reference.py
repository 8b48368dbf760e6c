"""The PyTorch reference: a checkpoint's model on the class graph of a label set, not folded."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import UsageError
from mlzsl.cli.text import label_key
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.export.network import Scorer
from mlzsl.export.unfolded_head import UnfoldedHead
from mlzsl.graph.classgraph import ClassGraph, build_class_graph
from mlzsl.graph.embeddings.source import Embeddings, EmbeddingSource
from mlzsl.graph.labels.sets import LabelSet, require_synsets
from mlzsl.graph.overlap import SYNSETS, Overlap
from mlzsl.train.checkpoint import Checkpoint, load_checkpoint
from mlzsl.train.embeddings import ClipEmbeddings, open_embeddings
from mlzsl.train.models.model import graph_tensors


def reference_scorer(checkpoint: Checkpoint, graph: ClassGraph) -> Scorer:
    """The checkpoint's backbone and the forward pass of its model on a class graph."""
    return Scorer(checkpoint.backbone, UnfoldedHead(checkpoint.model, graph_tensors(graph)))


def testing_graph(checkpoint: Checkpoint, labels: LabelSet, embeddings: Embeddings) -> ClassGraph:
    """The class graph of a label set; a label is seen if a label of the same synset was in training.

    A label without a synset is seen if its name was in training.

    Raises:
        UsageError: the model needs a class graph, and labels have no synset.
    """
    if checkpoint.model.uses_graph:
        require_synsets(labels, f"model {checkpoint.model.name}")
    if isinstance(embeddings, ClipEmbeddings):
        embeddings.use_backbone(checkpoint.backbone)
    synset_of = dict(zip(checkpoint.labels.labels, checkpoint.labels.synsets, strict=True))
    known = {synset_of[label] or label_key(label) for label in checkpoint.seen}
    pairs = zip(labels.labels, labels.synsets, strict=True)
    seen = {label for label, synset in pairs if (synset or label_key(label)) in known}
    return build_class_graph(
        labels,
        seen,
        checkpoint.backbone.external,
        embeddings,
        checkpoint.threshold,
        checkpoint.overlap,
        checkpoint.most_externals,
        edges=checkpoint.model.uses_graph,
    )


def open_same_embeddings(trained_with: EmbeddingSource, spec: str | None) -> Embeddings:
    """Open the embeddings that a checkpoint was trained with.

    Args:
        trained_with: the source in the checkpoint.
        spec: as for `open_embeddings`; None for the source in the checkpoint, where it was in training.

    Raises:
        UsageError: the file is missing, or has other content than in training.
    """
    if spec is None:
        spec = trained_with.path or trained_with.name
        if trained_with.path is not None and not Path(spec.removeprefix(f"{trained_with.name}:")).exists():
            raise UsageError(
                f"{spec}: no such file or folder; the checkpoint was trained with these embeddings, "
                "say where they are with --embeddings."
            )
    embeddings = open_embeddings(spec)
    if embeddings.source.sha256 != trained_with.sha256:
        raise UsageError(
            f"--embeddings {spec}: SHA-256 {embeddings.source.sha256[:12]}…, but the checkpoint was trained with "
            f"{trained_with.name} ({trained_with.dimension}-d, SHA-256 {trained_with.sha256[:12]}…); name that source."
        )
    return embeddings


def manifest_graph(checkpoint: Checkpoint, manifest: Manifest, embeddings: str | None) -> ClassGraph:
    """The class graph of a manifest's labels; arguments and errors as for `open_same_embeddings`.

    Raises:
        UsageError: the manifest states an unknown rule for external classes that are labels.
    """
    overlap = manifest.graph.get("overlap", SYNSETS)
    if overlap not in get_args(Overlap):
        raise UsageError(
            f"the manifest's graph.overlap is {overlap!r}; expected {' or '.join(get_args(Overlap))}: re-export it."
        )
    checkpoint = replace(checkpoint, overlap=overlap)
    names, synsets = zip(*((label.name, label.synset) for label in manifest.labels), strict=True)
    vectors = open_same_embeddings(checkpoint.embeddings, embeddings)
    return testing_graph(checkpoint, LabelSet("manifest", names, synsets), vectors)


def reference_scores(
    checkpoint: Path, manifest: Manifest, images: Iterable[npt.NDArray[np.uint8]], embeddings: str | None = None
) -> Iterator[npt.NDArray[np.float32]]:
    """Score batches with the checkpoint's model for the labels of a manifest.

    Args:
        checkpoint: the checkpoint that the model was exported from.
        manifest: of the exported model, with labels and synsets.
        images: batches, uint8 [n, S, S, 3].
        embeddings: as for `open_same_embeddings`.

    Yields:
        float32 [n, L] for each batch, labels in the manifest's order.
    """
    trained = load_checkpoint(checkpoint)
    reference = reference_scorer(trained, manifest_graph(trained, manifest, embeddings))
    for batch in images:
        yield reference.scores(batch)
