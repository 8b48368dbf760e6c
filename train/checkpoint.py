"""The checkpoint: one `.safetensors` file with all that export needs of a training.

Tensors `model.*` (the model) and `backbone.*` (the frozen feature extractor). The header's entry `mlzsl` is JSON:
model, configuration, backbone, labels with synsets and seen flags, graph settings, the embeddings used, the training
record. Nothing is unpickled.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mlzsl.cli.errors import UsageError, reason_of
from mlzsl.cli.outputs import written_atomically
from mlzsl.graph.embeddings.source import EmbeddingSource
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.train.backbones.backbone import DENSE, GAP, Backbone
from mlzsl.train.models.model import Model
from mlzsl.train.models.registry import NAMES_IN_0_1, config_of, create_model

FORMAT, FORMAT_OF_0_1 = "mlzsl checkpoint 2", "mlzsl checkpoint 1"


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and its training.

    Attributes:
        model: in evaluation mode.
        backbone: the frozen feature extractor; its `external` label set gives Y^a.
        labels: Y, the label set of the training data, seen and unseen.
        seen: Y^s, the labels in training.
        embeddings: the source of S; export needs the same one.
        threshold: the WUP similarity above which two classes share an edge.
        training: the training record: data, settings, losses, metrics (JSON).
    """

    model: Model
    backbone: Backbone
    labels: LabelSet
    seen: tuple[str, ...]
    embeddings: EmbeddingSource
    threshold: float
    training: dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Raises:
        FailureError: the file system refuses; an existing checkpoint is unchanged.
    """
    header = {
        "format": FORMAT,
        "model": checkpoint.model.name,
        "config": config_of(checkpoint.model),
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
    """Read a checkpoint, its model in evaluation mode.

    Raises:
        UsageError: the file is missing, damaged or no checkpoint, or its model is unknown.
    """
    header, tensors = _read(path)
    try:
        model = create_model(header["model"], header["config"])
        labels = header["labels"]
        checkpoint = Checkpoint(
            model=model,
            backbone=Backbone.from_config(header["backbone"], _part(tensors, "backbone.")),
            labels=LabelSet(labels["name"], tuple(labels["labels"]), tuple(labels["synsets"])),
            seen=tuple(header["seen"]),
            embeddings=EmbeddingSource(**header["embeddings"]),
            threshold=float(header["threshold"]),
            training=dict(header["training"]),
        )
        model.load_state_dict(_part(tensors, "model."), strict=True)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: the checkpoint's header is damaged ({error!r}); train again.") from error
    except RuntimeError as error:
        raise UsageError(
            f"{path}: the tensors do not match the model in the header: {reason_of(error)}; train again."
        ) from error
    if not all(torch.isfinite(tensor).all() for tensor in model.state_dict().values()):
        raise UsageError(f"{path}: the model's tensors contain NaN or infinity; train again.")
    model.eval()
    return checkpoint


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise UsageError(f"{path}: no such checkpoint; train one with mlzsl-train, or name another.")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("mlzsl", "null"))
            found = header.get("format") if isinstance(header, dict) else None
            if found not in (FORMAT, FORMAT_OF_0_1):
                expected = f"expected {FORMAT!r}, as mlzsl-train writes it"
                raise UsageError(f"{path}: found {repr(found) if found else 'no checkpoint header'}, {expected}.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise UsageError(
            f"{path}: is not a readable safetensors file ({error}); it may be truncated: train again, or copy it again."
        ) from error
    return _upgrade(header, tensors) if found == FORMAT_OF_0_1 else (header, tensors)


def _upgrade(header: dict[str, Any], tensors: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Rename what mlzsl 0.1 wrote under other names: header entries, configuration fields, a tensor."""
    names = {old: new for new, old in NAMES_IN_0_1.items()}
    backbone = dict(header["backbone"])
    pooling = {"average": GAP, "places": DENSE}.get(backbone.pop("reading", "average"), "unknown")
    header = header | {
        "model": header["system"],
        "config": {names.get(name, name): value for name, value in header["model"].items()},
        "backbone": backbone | {"pooling": pooling},
    }
    if "model.usual" in tensors:
        tensors["model.class_prior"] = tensors.pop("model.usual")
    return header, tensors


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
