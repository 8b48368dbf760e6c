"""The systems by name: what `--system` and a checkpoint's header speak of."""

import math
from dataclasses import asdict, fields
from typing import Any

from mlzsl.cli.errors import UsageError
from mlzsl.train.models.evidence import Evidence
from mlzsl.train.models.fast0tag import Fast0Tag
from mlzsl.train.models.model import Model
from mlzsl.train.models.rgcn import RGCN
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE
from mlzsl.train.models.rgcn_xl import RGCNXL
from mlzsl.train.models.skg import SKG
from mlzsl.train.models.training_free import TrainingFree
from mlzsl.train.models.visual_semantic import VisualSemantic

MODELS: dict[str, type[Model]] = {
    each.name: each for each in (VisualSemantic, Fast0Tag, SKG, RGCN, RGCNXL, RGCNPosVAE, TrainingFree, Evidence)
}  # the rows of the paper's table 1 in their order, then those that it does not have


def find_model(name: str) -> type[Model]:
    """The class of a system.

    Raises:
        UsageError: no system is called so.
    """
    if name not in MODELS:
        raise UsageError(f"system {name!r} is not known here; expected one of {', '.join(MODELS)}.")
    return MODELS[name]


def settings_of(name: str) -> set[str]:
    """The names of the entries of a system's configuration."""
    return {field.name for field in fields(find_model(name).config_class)}


def create_model(name: str, config: dict[str, Any]) -> Model:
    """Build a system from its name and the JSON form of its whole configuration.

    Raises:
        UsageError: an unknown system, or a configuration with missing, unknown or unusable entries.
    """
    model_class = find_model(name)
    expected = {field.name: field.type for field in fields(model_class.config_class)}
    unfit = sorted(expected.keys() ^ config.keys()) or [
        key for key, kind in expected.items() if not _is_positive(config[key], kind)
    ]
    if unfit:
        raise UsageError(f"the configuration of system {name} is unfit at {', '.join(unfit)}.")
    return model_class(model_class.config_class(**config))


def config_of(model: Model) -> dict[str, Any]:
    """The JSON form of a system's configuration."""
    return asdict(model.config)


def _is_positive(value: Any, kind: Any) -> bool:
    number = (int, float) if kind is float else int
    return isinstance(value, number) and not isinstance(value, bool) and 0 < value < math.inf
