"""Opening label embeddings by name, with those of CLIP's text towers, which need torch."""

from pathlib import Path

from mlzsl.graph.embeddings.opening import open_embeddings as open_embeddings_without_torch
from mlzsl.graph.embeddings.source import EmbeddedLabels, Embeddings, EmbeddingSource, Origin, Role
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.train.backbones.backbone import Backbone
from mlzsl.train.backbones.clip import CLIP, ClipModel, load_clip


class ClipEmbeddings:
    """The text embeddings of a CLIP model: each label's name in prompts (`clip.TEMPLATES`)."""

    def __init__(self, model: ClipModel, weights: Path | None = None, quiet: bool = True) -> None:
        """Args: the model, the file of its weights if it was named, and whether to show no progress."""
        self._model, self._quiet = model, quiet
        self._path = clip_spec(model.name, weights) if weights else None

    @property
    def source(self) -> EmbeddingSource:
        return EmbeddingSource(self._model.name, self._model.dimension, self._model.text_sha256, self._path)

    def preload(self, *label_sets: LabelSet) -> None:
        """Encode the labels of these sets."""
        self._model.vectors([label for labels in label_sets for label in labels.labels], self._quiet)

    def embed(self, labels: LabelSet, role: Role) -> EmbeddedLabels:
        """The vectors of all labels, unit length, float32 [n, F]."""
        vectors = self._model.vectors(labels.labels, self._quiet)
        return EmbeddedLabels(vectors, tuple(map(self.find, labels.labels, labels.synsets)))

    def use_backbone(self, backbone: Backbone) -> None:
        """Take the vectors of external classes from a backbone of the same model instead of encoding them again."""
        if backbone.name == self._model.name:
            self._model.use_classifier(backbone.external.labels, backbone.classifier.weight.detach().cpu())

    def find(self, label: str, synset: str | None) -> Origin:
        return Origin("clip", label)


def open_embeddings(spec: str, quiet: bool = True) -> Embeddings:
    """Open the embeddings that `spec` names.

    Args:
        spec: `clip:NAME` or `clip:NAME:FILE`, the text tower of a model of open_clip with published weights or those of
            a file; else as for `graph.embeddings.opening.open_embeddings`.
        quiet: show no progress.

    Raises:
        UsageError: there is no such file or model, or the extra that it needs is not installed.
        FailureError: the weights cannot be downloaded.
    """
    if not spec.startswith(CLIP):
        return open_embeddings_without_torch(spec)
    name, _, file = spec.removeprefix(CLIP).partition(":")
    weights = Path(file) if file else None
    return ClipEmbeddings(load_clip(CLIP + name, weights), weights, quiet)


def clip_spec(name: str, weights: Path | None) -> str:
    """What `open_embeddings` takes for the text tower of a CLIP backbone with these weights."""
    return f"{name}:{weights.absolute()}" if weights else name
