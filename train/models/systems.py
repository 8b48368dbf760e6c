"""The systems by name: what `--system` and a checkpoint's header speak of."""

from dataclasses import asdict, fields
from typing import Any

from mlzsl.shell.errors import UsageError
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE, RGCNPosVAEConfig

SYSTEMS = {RGCNPosVAE.system: (RGCNPosVAE, RGCNPosVAEConfig)}


def make_system(name: str, config: dict[str, Any]) -> RGCNPosVAE:
    """Build a system from its name and the JSON form of its configuration.

    Raises:
        UsageError: an unknown system, or a configuration with missing, unknown or unusable entries.
    """
    if name not in SYSTEMS:
        raise UsageError(f"system {name!r} is not known here; expected one of {', '.join(SYSTEMS)}.")
    model_class, config_class = SYSTEMS[name]
    expected = {field.name: field.type for field in fields(config_class)}
    unfit = sorted(expected.keys() ^ config.keys()) or [
        key for key, kind in expected.items() if not _is_positive(config[key], kind)
    ]
    if unfit:
        raise UsageError(f"the configuration of system {name} is unfit at {', '.join(unfit)}.")
    return model_class(config_class(**config))


def config_of(model: RGCNPosVAE) -> dict[str, Any]:
    """The JSON form of a system's configuration."""
    return asdict(model.config)


def _is_positive(value: Any, kind: Any) -> bool:
    number = (int, float) if kind is float else int
    return isinstance(value, number) and not isinstance(value, bool) and value > 0
