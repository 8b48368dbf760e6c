"""Label embeddings from an array of vectors: a `.npy` or `.safetensors` file with a list of names.

The names are a text file beside it, of the same stem, with one name a line; a `.safetensors` file may have them in its
metadata instead, as a JSON list under "names". Labels are looked up as in a text file of word vectors.
"""

from collections.abc import Collection
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mlzsl.cli.errors import UsageError, reason_of
from mlzsl.cli.inputs import read_text
from mlzsl.cli.json_decoding import decode_json
from mlzsl.cli.outputs import sha256_of_bytes, sha256_of_file
from mlzsl.cli.text import label_key
from mlzsl.graph.embeddings.text import WordVectors

MAX_BYTES = 4 * 2**30  # of the array; 1,000,000 vectors of 768 numbers take 3.1e9
MAX_NAMES = 256 * 2**20  # bytes of the list
SUFFIXES = (".npy", ".safetensors")


def read_array(path: str | Path, wanted: Collection[str]) -> WordVectors:
    """Read all vectors of a file by their names; case and spelling with `_`, `-` or spaces do not matter.

    Args:
        path: of the array, float [n, dimension] of any width, little-endian or not.
        wanted: not used: the array is read whole.

    Raises:
        UsageError: the file is damaged, no float matrix, or has values that are not finite numbers; the list of names
            is missing, has another number of names, or has a name twice.
    """
    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(f"{path}: is larger than {MAX_BYTES / 2**30:g} GiB; leave out vectors that no label needs.")
    matrix, metadata = _read_npy(path) if path.suffix == ".npy" else _read_safetensors(path)
    if matrix.ndim != 2 or matrix.dtype.kind != "f" or matrix.shape[1] < 2:
        raise UsageError(
            f"{path}: has an array of {matrix.dtype} {list(matrix.shape)}; expected float vectors [names, dimension]."
        )
    names, names_file = _read_names(path, metadata)
    if len(names) != len(matrix):
        raise UsageError(
            f"{names_file}: has {len(names):,} names for the {len(matrix):,} vectors of {path}; "
            "write one name a line, in the order of the vectors."
        )
    keys = ["_".join(label_key(name).split()) for name in names]
    rows = {key: row for row, key in enumerate(keys)}
    if len(rows) < len(keys):
        row = next(row for row, key in enumerate(keys) if rows[key] != row)
        raise UsageError(f"{names_file}: has the name {names[row]!r} twice; leave one of its vectors out.")
    with np.errstate(over="ignore", invalid="ignore"):  # numbers beyond float32 become infinite, and are refused
        vectors = matrix.astype(np.float32)
    if not (finite := np.isfinite(vectors).all(axis=1)).all():
        raise UsageError(
            f"{path}: the vector of {names[int(finite.argmin())]!r} has a value that is not a finite number; "
            "make the file again."
        )
    sha256 = sha256_of_bytes(sha256_of_file(path).encode(), "\n".join(names).encode(errors="surrogatepass"))
    return WordVectors(dict(zip(keys, vectors, strict=True)), vectors.shape[1], sha256, tuple(names))


def _read_npy(path: Path) -> tuple[NDArray[Any], dict[str, str]]:
    try:
        with np.errstate(over="raise"):  # where the header's shape exceeds 64 bits
            matrix = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: no more memory than the file has bytes
    except (ValueError, EOFError, OSError, ArithmeticError, SyntaxError, TokenError) as error:
        raise UsageError(f"{path}: is not a readable .npy file of numbers ({reason_of(error)}).") from error
    return matrix, {}


def _read_safetensors(path: Path) -> tuple[NDArray[Any], dict[str, str]]:
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            if len(names) != 1:
                raise UsageError(f"{path}: has {len(names)} tensors; expected one, of vectors [names, dimension].")
            return file.get_tensor(names[0]), file.metadata() or {}
    except (SafetensorError, OSError, TypeError) as error:  # TypeError: a dtype that NumPy lacks, such as bfloat16
        raise UsageError(
            f"{path}: is not a readable .safetensors file of float vectors ({reason_of(error)})."
        ) from error


def _read_names(path: Path, metadata: dict[str, str]) -> tuple[list[str], str]:
    """The names of the vectors, and where they stand."""
    if "names" in metadata:
        where = f"{path}: names in its metadata"
        return decode_json(metadata["names"], list[str], where, "write a JSON list of names"), where
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        metadata_too = ', or the metadata "names" with a JSON list' if path.suffix == ".safetensors" else ""
        raise UsageError(f"{path}: has no names; write them into {beside}, one a line{metadata_too}.")
    return read_text(beside, MAX_NAMES, "name the vectors, one name a line").splitlines(), str(beside)
