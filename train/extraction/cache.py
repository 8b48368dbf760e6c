"""What costs time and can be made again: named arrays in a file that is believed only when key and bytes fit."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mlzsl.cli.outputs import written_atomically

Array = npt.NDArray[Any]

HEADER = "mlzsl cache"


def keep(path: Path, key: str, arrays: dict[str, Array], record: dict[str, Any] | None = None) -> None:
    """Write arrays whole or not at all.

    Args:
        path: a `.safetensors` file, replaced when it exists.
        key: a hash of all that the arrays depend on.
        arrays: by name.
        record: JSON to keep beside them.

    Raises:
        FailureError: the file system refuses.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    header = {"key": key, "sha256": _sha256(arrays), "record": record or {}}
    with written_atomically(path) as temporary:
        temporary.write_bytes(save(arrays, metadata={HEADER: json.dumps(header)}))  # a full disk is an OSError


def recall(path: Path, key: str) -> tuple[dict[str, Array], dict[str, Any]] | None:
    """Return the arrays and the record kept at `path`, or None when they are to be made anew.

    None means: no file, another key, a file cut short or changed. A cache is never a reason to fail.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})[HEADER])
            if header["key"] != key:
                return None
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict
            if header["sha256"] != _sha256(arrays):
                return None
            return arrays, dict(header["record"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None


def _sha256(arrays: dict[str, Array]) -> str:
    """A hash of names, shapes, types and bytes."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {tuple(array.shape)} {array.dtype}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
