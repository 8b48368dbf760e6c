"""A cache of named arrays in `.safetensors` files, each valid only for its key and checksum."""

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


def save_cached(path: Path, key: str, arrays: dict[str, Array], record: dict[str, Any] | None = None) -> None:
    """Write arrays atomically.

    Args:
        path: a `.safetensors` file; an existing one is replaced.
        key: a hash of everything that the arrays depend on.
        arrays: by name.
        record: JSON to store with them.

    Raises:
        FailureError: the file system refuses.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    header = {"key": key, "sha256": _sha256(arrays, record or {}), "record": record or {}}
    with written_atomically(path) as temporary:
        temporary.write_bytes(save(arrays, metadata={HEADER: json.dumps(header)}))  # a full disk is an OSError


def load_cached(path: Path, key: str) -> tuple[dict[str, Array], dict[str, Any]] | None:
    """Return the arrays and the record at `path`; None for a missing or damaged file, or one of another key."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})[HEADER])
            if header["key"] != key:
                return None
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict
        return (arrays, dict(header["record"])) if header["sha256"] == _sha256(arrays, header["record"]) else None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
        return None


def _sha256(arrays: dict[str, Array], record: dict[str, Any]) -> str:
    """A hash of the record, and of names, shapes, dtypes and bytes."""
    digest = hashlib.sha256(f"{json.dumps(record, sort_keys=True)}\n".encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {tuple(array.shape)} {array.dtype}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
