"""The checkpoint: one `.safetensors` file that holds all that tagging with a trained system needs.

Tensors `model.*` (the system) and `backbone.*` (the frozen feature extractor); the header's entry `mlzsl` is JSON:
system, configuration, backbone, labels with their synsets and seen flags, graph settings, the embeddings used,
the training record. Nothing is unpickled.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import written_atomically
from mlzsl.graph.embeddings.source import EmbeddingSource
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.train.backbones.backbone import Backbone
from mlzsl.train.models.model import Model
from mlzsl.train.models.registry import config_of, create_model

FORMAT = "mlzsl checkpoint 1"


@dataclass(frozen=True)
class Checkpoint:
    """A trained system and what it was trained with.

    Attributes:
        model: the system, in evaluation mode.
        backbone: the frozen feature extractor; its `external` label set gives Y^a.
        labels: Y, the label set of the training data, seen and unseen.
        seen: Y^s, the labels that training saw.
        embeddings: where S came from; the same source must serve at export.
        threshold: the WUP similarity above which two classes share an edge.
        training: the record of the training: data, settings, losses, metrics (JSON).
    """

    model: Model
    backbone: Backbone
    labels: LabelSet
    seen: tuple[str, ...]
    embeddings: EmbeddingSource
    threshold: float
    training: dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        FailureError: the file system refuses; a checkpoint that was there before is unchanged.
    """
    header = {
        "format": FORMAT,
        "system": checkpoint.model.name,
        "model": config_of(checkpoint.model),
        "backbone": checkpoint.backbone.config(),
        "labels": asdict(checkpoint.labels),
        "seen": list(checkpoint.seen),
        "embeddings": asdict(checkpoint.embeddings),
        "threshold": checkpoint.threshold,
        "training": checkpoint.training,
    }
    tensors = {
        f"{part}.{name}": tensor.detach().cpu().contiguous().clone()
        for part, module in (("model", checkpoint.model), ("backbone", checkpoint.backbone))
        for name, tensor in module.state_dict().items()
    }
    with written_atomically(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"mlzsl": json.dumps(header)}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, its system ready for evaluation.

    Raises:
        UsageError: the file is missing, is not a checkpoint of ours, is damaged, or holds another system.
    """
    header, tensors = _read(path)
    try:
        model = create_model(header["system"], header["model"])
        backbone = Backbone.from_config(header["backbone"], _part(tensors, "backbone."))
        labels = LabelSet(
            header["labels"]["name"], tuple(header["labels"]["labels"]), tuple(header["labels"]["synsets"])
        )
        checkpoint = Checkpoint(
            model=model,
            backbone=backbone,
            labels=labels,
            seen=tuple(header["seen"]),
            embeddings=EmbeddingSource(**header["embeddings"]),
            threshold=float(header["threshold"]),
            training=dict(header["training"]),
        )
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path}: the checkpoint's header is unfit ({error!r}); train again with mlzsl-train."
        ) from error
    _load(path, model, _part(tensors, "model."))
    model.eval()
    return checkpoint


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise UsageError(f"{path}: no checkpoint is there; make one with mlzsl-train, or name one.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            header = json.loads(metadata.get("mlzsl", "null"))
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                found = header.get("format") if isinstance(header, dict) else "no header of ours"
                raise UsageError(f"{path}: found {found!r}, expected {FORMAT!r}, as mlzsl-train writes it.")
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise UsageError(
            f"{path}: is not a readable safetensors file ({error}); it may be cut short: train again, or copy it again."
        ) from error


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _load(path: Path, model: nn.Module, state: dict[str, Tensor]) -> None:
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UsageError(f"{path}: the tensors do not fit the system in the header: {reason}") from error
    if not all(torch.isfinite(tensor).all() for tensor in state.values()):
        raise UsageError(f"{path}: the system's tensors hold NaN or infinity; train again.")
