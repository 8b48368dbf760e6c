"""The models by name, as `--model` and the checkpoint header name them."""

from dataclasses import asdict, fields
from typing import Any

from mlzsl.cli.errors import UsageError
from mlzsl.train.models.evidence import Evidence
from mlzsl.train.models.fast0tag import Fast0Tag
from mlzsl.train.models.model import Model
from mlzsl.train.models.rgcn import RGCN, RGCNXL
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE
from mlzsl.train.models.skg import SKG
from mlzsl.train.models.training_free import TrainingFree
from mlzsl.train.models.visual_semantic import VisualSemantic
from mlzsl.train.models.zero_shot import ZeroShot

MODELS: dict[str, type[Model]] = {
    each.name: each
    for each in (VisualSemantic, Fast0Tag, SKG, RGCN, RGCNXL, RGCNPosVAE, TrainingFree, Evidence, ZeroShot)
}  # the rows of the paper's table 1 in its order, then our own and CLIP's

NAMES_IN_0_1 = {"external_score_std": "evidence_deviation"}  # of configuration fields that were renamed since


MAX_LAYERS = 1000  # of a configuration: creating billions of layers would not end
MAX_NUMBER = 2**24  # of a configuration: products of widths stay below 2⁶³


def find_model(name: str) -> type[Model]:
    """The class of a model.

    Raises:
        UsageError: an unknown name.
    """
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}; expected one of {', '.join(MODELS)}.")
    return MODELS[name]


def settings_of(name: str) -> set[str]:
    """The names of the fields of a model's configuration."""
    return {field.name for field in fields(find_model(name).config_class)}


def create_model(name: str, config: dict[str, Any]) -> Model:
    """Create a model from its name and the JSON form of its complete configuration.

    Raises:
        UsageError: an unknown name, or a configuration with missing, unknown or invalid entries.
    """
    model_class = find_model(name)
    expected = {field.name: field.type for field in fields(model_class.config_class)}
    invalid = sorted(expected.keys() ^ config.keys()) or [
        key
        for key, kind in expected.items()
        if not _is_positive(config[key], kind) or (key == "layers" and config[key] > MAX_LAYERS)
    ]
    if invalid:
        raise UsageError(
            f"model {name}: missing, unknown or invalid configuration entries: {', '.join(invalid)}; "
            f"expected positive numbers for {', '.join(expected)}."
        )
    return model_class(model_class.config_class(**config))


def config_of(model: Model) -> dict[str, Any]:
    """The JSON form of a model's configuration."""
    return asdict(model.config)


def _is_positive(value: Any, kind: Any) -> bool:
    number = (int, float) if kind is float else int
    return isinstance(value, number) and not isinstance(value, bool) and 0 < value <= MAX_NUMBER
