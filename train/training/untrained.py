"""Checkpoints of models that nothing is fitted for: a backbone, label vectors and a formula."""

from dataclasses import replace
from pathlib import Path

from mlzsl.cli.errors import UsageError
from mlzsl.graph.embeddings.source import EmbeddingSource
from mlzsl.graph.labels.sets import LabelSet, load_label_set
from mlzsl.train.backbones.backbone import GAP, Backbone
from mlzsl.train.checkpoint import Checkpoint, save_checkpoint
from mlzsl.train.embeddings import open_embeddings
from mlzsl.train.models.registry import MODELS, find_model, settings_of
from mlzsl.train.training.job import (
    SCENES_LABELS,
    Job,
    check_inputs,
    check_towers,
    embeddings_spec,
    job_backbone,
    needs_synsets,
)

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
            f"--model {model}: has to be trained first; run mlzsl-train --model {model}, or choose {ready}, "
            "which needs no training."
        )
    sizes = {"feature_dim": backbone.feature_dim, "embedding_dim": embeddings.dimension}
    config = chosen.config_class(**{name: size for name, size in sizes.items() if name in settings_of(model)})
    untrained = chosen(config)
    untrained.use_classifier(backbone.classifier)
    return Checkpoint(
        untrained.eval(), backbone.with_pooling(GAP), labels, (), embeddings, THRESHOLD, {}, chosen.overlap, None
    )


def write_untrained(job: Job, quiet: bool = False) -> Path:
    """Write the checkpoint of a job whose model needs no photos, and return its path.

    Raises:
        UsageError: a name or file is invalid, a label has no vector, or the model has to be trained.
        FailureError: weights cannot be downloaded, or the checkpoint cannot be written.
    """
    labels = load_label_set(job.labels or SCENES_LABELS, job.skip_unlinked, quiet, needed_by=needs_synsets(job))
    check_towers(job)
    embeddings = open_embeddings(embeddings_spec(job), quiet)
    check_inputs(job, labels, embeddings)
    backbone = job_backbone(job, quiet)
    checkpoint = untrained_checkpoint(job.model, labels, backbone, embeddings.source)
    save_checkpoint(job.output, replace(checkpoint, overlap=job.overlap or checkpoint.overlap))
    return job.output
