"""Checkpoints of models that nothing is fitted for: a backbone, label vectors and a formula."""

from mlzsl.cli.errors import UsageError
from mlzsl.graph.embeddings.source import EmbeddingSource
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.train.backbones.backbone import GAP, Backbone
from mlzsl.train.checkpoint import Checkpoint
from mlzsl.train.models.registry import MODELS, find_model

THRESHOLD = 0.5  # of WUP, unused: such models have no edges


def untrained_checkpoint(model: str, labels: LabelSet, backbone: Backbone, embeddings: EmbeddingSource) -> Checkpoint:
    """The checkpoint of a model that needs no training.

    Args:
        model: its name, such as "training-free".
        labels: Y; none of them is seen.
        backbone: frozen, as opened.
        embeddings: the source of the label vectors.

    Raises:
        UsageError: an unknown model, or one that is trained or fitted.
    """
    chosen = find_model(model)
    if chosen.fitted:
        ready = ", ".join(name for name, each in MODELS.items() if not each.fitted)
        raise UsageError(
            f"--model {model}: has to be trained first; run mlzsl-train --model {model}, or choose {ready}, which needs "
            "no training."
        )
    untrained = chosen(chosen.config_class()).eval()
    return Checkpoint(
        untrained, backbone.with_pooling(GAP), labels, (), embeddings, THRESHOLD, {}, chosen.overlap, None
    )
