"""Optional dependencies: imported on use, with an error that names the extra to install."""

import importlib
from typing import Any

from mlzsl.cli.errors import UsageError

OURS = "mlzsl"


def import_optional(name: str, missing: str) -> Any:
    """Import a module of an optional dependency, such as "openvino", or one of ours that needs some.

    Raises:
        UsageError: a dependency is not installed; the sentence is `missing`, which names the extra to install.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or OURS).partition(".")[0] == OURS:
            raise
        raise UsageError(missing) from error
