"""The checkpoint: one `.safetensors` file with all that export needs of a training.

Tensors `model.*` (the model) and `backbone.*` (the frozen feature extractor). The header's entry `mlzsl` is JSON:
model, configuration, backbone, labels with synsets and seen flags, graph settings, the embeddings used, the training
record. Nothing is unpickled.
"""

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta, Struct
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mlzsl.cli.errors import UsageError, reason_of
from mlzsl.cli.json_decoding import Fraction, decode_json
from mlzsl.cli.outputs import written_atomically
from mlzsl.graph.embeddings.source import EmbeddingSource
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.graph.overlap import SYNSETS, Overlap
from mlzsl.train.backbones.backbone import DENSE, GAP, Backbone
from mlzsl.train.models.model import Model
from mlzsl.train.models.registry import NAMES_IN_0_1, config_of, create_model

FORMAT, FORMAT_OF_0_1 = "mlzsl checkpoint 2", "mlzsl checkpoint 1"
TENSORS_OF_0_1 = {"model.usual": "model.class_prior"}  # that were renamed since


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
        overlap: what the class graph does with external classes that are labels.
        most_externals: the largest number of external classes in the class graph; None for all.
    """

    model: Model
    backbone: Backbone
    labels: LabelSet
    seen: tuple[str, ...]
    embeddings: EmbeddingSource
    threshold: float
    training: dict[str, Any]
    overlap: Overlap = SYNSETS
    most_externals: int | None = None


class _Header(Struct):
    format: str
    model: str
    config: dict[str, Any]
    backbone: dict[str, Any]
    labels: LabelSet
    seen: tuple[str, ...]
    embeddings: EmbeddingSource
    threshold: Fraction
    training: dict[str, Any]
    overlap: Overlap = SYNSETS
    most_externals: Annotated[int, Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format is {self.format!r}, not {FORMAT!r}")


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
        "overlap": checkpoint.overlap,
        "most_externals": checkpoint.most_externals,
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
        with warnings.catch_warnings(action="ignore"):  # of widths of 0
            with torch.device("meta"):  # allocates nothing, whatever widths the configuration states
                model = create_model(header.model, header.config)
            backbone = Backbone.from_config(header.backbone, _part(tensors, "backbone."))
        model.load_state_dict(_part(tensors, "model."), strict=True, assign=True)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except RuntimeError as error:
        raise UsageError(
            f"{path}: the tensors do not match the model in the header: {reason_of(error)}; train again."
        ) from error
    if not all(torch.isfinite(tensor).all() for tensor in model.state_dict().values()):
        raise UsageError(f"{path}: the model's tensors contain NaN or infinity; train again.")
    return Checkpoint(
        model.eval(),
        backbone,
        header.labels,
        header.seen,
        header.embeddings,
        header.threshold,
        header.training,
        header.overlap,
        header.most_externals,
    )


def _read(path: Path) -> tuple[_Header, dict[str, Tensor]]:
    if not path.is_file():
        raise UsageError(f"{path}: no such checkpoint; train one with mlzsl-train, or name another.")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("mlzsl")
            tensors = {TENSORS_OF_0_1.get(name, name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UsageError(
            f"{path}: is not a readable safetensors file ({error}); it may be truncated: train again, or copy it again."
        ) from error
    if text is None:
        raise UsageError(f"{path}: has no checkpoint header; expected a file that mlzsl-train has written.")
    header = decode_json(text, _Header, f"{path}: the checkpoint header", "train again with mlzsl-train", _upgrade)
    return header, tensors


def _upgrade(header: dict[str, Any]) -> dict[str, Any]:
    """Rename the header entries and configuration fields of mlzsl 0.1."""
    config, backbone = header.get("model"), header.get("backbone")
    if header.get("format") != FORMAT_OF_0_1 or not isinstance(config, dict) or not isinstance(backbone, dict):
        return header
    names = {old: new for new, old in NAMES_IN_0_1.items()}
    return header | {
        "format": FORMAT,
        "model": header.get("system"),
        "config": {names.get(name, name): value for name, value in config.items()},
        "backbone": backbone | {"pooling": DENSE if backbone.get("reading") == "places" else GAP},
    }


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
