"""Model files: an ONNX network with its manifest and golden sample in `metadata_props`.

An ONNX file is one protobuf message. Its top-level fields are found by their tags and lengths over a memory map, so
that reading a manifest costs one pass of SHA-256 over the file: the network is not parsed, and the onnx package is not
needed. The entries are

    mlzsl.manifest  the manifest, JSON
    mlzsl.checksum  SHA-256 of the manifest's bytes (`mlzsl.seal` in files of mlzsl 0.1)
    mlzsl.golden    the golden sample, base64 of a safetensors file

The manifest holds the hashes of the network (all bytes but these entries) and of the golden sample, so that a changed
byte is detected wherever it matters.
"""

import base64
import contextlib
import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from mlzsl.cli.errors import FailureError, UsageError, reason_of
from mlzsl.cli.outputs import written_atomically
from mlzsl.engines.artifact.manifest import REMEDY, Manifest
from mlzsl.engines.artifact.protobuf import Field, MalformedError, encode_field, fields_of

Images = npt.NDArray[np.uint8]  # [n, S, S, 3], RGB
Scores = npt.NDArray[np.float32]  # [n, L], in [0, 1], labels in the manifest's order

LARGEST_FILE = 2**31 - 1  # bytes; the limit of protobuf
MOST_FIELDS, MOST_FIELDS_OF_ENTRY = 100_000, 16  # networks have hundreds of functions and operator sets at most
LARGEST_ENTRY = 2**28  # bytes of our metadata; 22,000 labels take 3 MB

# Field numbers of onnx.ModelProto and of its StringStringEntryProto, from onnx.proto.
GRAPH, METADATA_PROPS = 7, 14
KEY, VALUE = 1, 2
WIRE_TYPE = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, GRAPH: 2, 8: 2, METADATA_PROPS: 2, 20: 2, 25: 2, 26: 2}

OUR_PREFIX = b"mlzsl."
MANIFEST, CHECKSUM, GOLDEN = b"mlzsl.manifest", b"mlzsl.checksum", b"mlzsl.golden"
NAMES = {MANIFEST: "manifest", CHECKSUM: "checksum of the manifest", GOLDEN: "golden sample"}
EARLIER_KEYS = {b"mlzsl.seal": CHECKSUM}  # of mlzsl 0.1


class Golden(NamedTuple):
    """A few images and their scores by the fp32 PyTorch reference, which any engine is verified against."""

    images: Images
    scores: Scores


def read_model_file(path: str | os.PathLike[str]) -> tuple[Manifest, Golden]:
    """Read a model file's manifest and golden sample, and check that they belong to its network.

    Returns:
        The manifest, and the golden sample: images uint8 [n, S, S, 3] and scores float32 [n, L].

    Raises:
        UsageError: the file is missing, not a complete ONNX file, or its manifest is missing, ambiguous or not valid;
            the sentence names the file and the remedy.
    """
    where = os.fspath(path)
    with _mapped(Path(path)) as data, memoryview(data) as view:
        manifest, encoded = _checked(_top_level(view, where), view, where)
    return manifest, decode_golden(encoded, manifest, where)


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read the manifest of a model file; as `read_model_file`."""
    return read_model_file(path)[0]


def read_golden(path: str | os.PathLike[str]) -> Golden:
    """Read the golden sample of a model file; as `read_model_file`."""
    return read_model_file(path)[1]


def write_model_file(
    path: str | os.PathLike[str], network: bytes, manifest: Manifest, images: Images, scores: Scores
) -> Manifest:
    """Write a network with its manifest and golden sample as one model file, atomically.

    Args:
        path: the `.onnx` file to write.
        network: a serialized ONNX model; its `mlzsl.` entries are replaced.
        manifest: its two hashes are filled in.
        images: of the golden sample, uint8 [n, S, S, 3].
        scores: their reference scores, float32 [n, L].

    Returns:
        The manifest as written.

    Raises:
        UsageError: network, manifest and golden sample do not match.
        FailureError: the file cannot be written, or the network exceeds the size of ONNX files.
    """
    where = os.fspath(path)
    view = memoryview(network)
    spans = _spans_of_network(_top_level(view, where))
    golden = save_safetensors({"images": np.ascontiguousarray(images), "scores": np.ascontiguousarray(scores)})
    network_sha256 = _sha256_of(view, spans)
    final = msgspec.structs.replace(
        manifest,
        network_sha256=network_sha256,
        golden_sha256=hashlib.sha256(golden).hexdigest(),
        certificates=tuple(made for made in manifest.certificates if made.network_sha256 == network_sha256),
    )
    encoded = base64.b64encode(golden)
    decode_golden(encoded, final, where)
    _write(Path(path), view, spans, final, encoded)
    return final


def change_manifest(path: str | os.PathLike[str], change: Callable[[Manifest], Manifest]) -> Manifest:
    """Change the manifest of a model file; network and golden sample stay byte for byte.

    Args:
        path: the `.onnx` file.
        change: from the present manifest to the new one.

    Returns:
        The manifest as written.

    Raises:
        UsageError: as `read_model_file`.
        FailureError: the file cannot be written. It is then unchanged, as after any exception of `change`.
    """
    where = os.fspath(path)
    with _mapped(Path(path)) as data, memoryview(data) as view:
        fields = _top_level(view, where)
        manifest, encoded = _checked(fields, view, where)
        changed = change(manifest)
        _write(Path(path), view, _spans_of_network(fields), changed, encoded)
    return changed


def _write(path: Path, view: memoryview, spans: list[tuple[int, int]], manifest: Manifest, golden: bytes) -> None:
    """Write a network, a manifest with matching hashes, and an encoded golden sample."""
    text = manifest.to_json().encode()
    Manifest.from_json(text, os.fspath(path))
    checksum = hashlib.sha256(text).hexdigest().encode()
    appended = b"".join(
        encode_field(METADATA_PROPS, encode_field(KEY, key) + encode_field(VALUE, value))
        for key, value in ((MANIFEST, text), (CHECKSUM, checksum), (GOLDEN, golden))
    )
    size = sum(end - start for start, end in spans) + len(appended)
    if size > LARGEST_FILE:
        raise FailureError(
            f"{path}: the model takes {size / 2**30:.1f} GiB, and ONNX files at most 2 GiB; use a smaller backbone."
        )
    with written_atomically(path) as temporary, open(temporary, "wb") as file:
        for start, end in spans:
            with view[start:end] as span:
                file.write(span)
        file.write(appended)


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    """A read-only memory map of a regular file."""
    if not path.is_file():
        found = "is a folder, not a model file" if path.is_dir() else "no such model file"
        raise UsageError(f"{path}: {found}; make one with mlzsl-export, or name one.")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise UsageError(f"{path}: the file is empty; {REMEDY}.")
            if size > LARGEST_FILE:
                raise UsageError(
                    f"{path}: is not an ONNX file: it has {size / 2**30:.1f} GiB, and ONNX files at most 2 GiB; name "
                    "a file that mlzsl-export wrote."
                )
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({reason_of(error)}).") from error
    with data:
        yield data


@dataclass(frozen=True)
class _TopLevel:
    """A top-level field of the model, and the key and value (as spans) where it is an entry of metadata_props."""

    field: Field
    key: bytes = b""
    value: tuple[int, int] = (0, 0)


def _top_level(view: memoryview, where: str) -> list[_TopLevel]:
    """The top-level fields in the file's order.

    Raises:
        UsageError: the bytes are not a complete ONNX model.
    """
    fields = []
    try:
        for field in fields_of(view, 0, len(view), MOST_FIELDS):
            if field.wire_type != WIRE_TYPE.get(field.number, field.wire_type):
                raise MalformedError(f"field {field.number} at byte {field.start} has a type unknown to ONNX")
            fields.append(_metadata(view, field) if field.number == METADATA_PROPS else _TopLevel(field))
        graphs = sum(entry.field.number == GRAPH for entry in fields)
        if graphs != 1:
            raise MalformedError(f"it holds {graphs or 'no'} network{'s' if graphs > 1 else ''}")
    except MalformedError as malformed:
        raise UsageError(
            f"{where}: is not an ONNX file, or an incomplete one: {malformed}; copy it again, or {REMEDY}."
        ) from malformed
    return fields


def _checked(fields: list[_TopLevel], view: memoryview, where: str) -> tuple[Manifest, bytes]:
    """The manifest, checked against its checksum and the network, and the golden sample, still encoded."""
    text = _entry(fields, view, MANIFEST, where)
    if hashlib.sha256(text).hexdigest().encode() != _entry(fields, view, CHECKSUM, where):
        raise UsageError(f"{where}: its manifest was changed after it was written; {REMEDY}.")
    manifest = Manifest.from_json(text, where)
    if _sha256_of(view, _spans_of_network(fields)) != manifest.network_sha256:
        raise UsageError(
            f"{where}: its manifest belongs to another network, or the file was changed or damaged "
            f"(its SHA-256 is not the manifest's); {REMEDY}."
        )
    return manifest, _entry(fields, view, GOLDEN, where)


def _metadata(view: memoryview, field: Field) -> _TopLevel:
    key, value = b"", (field.end, field.end)
    for inner in fields_of(view, field.body, field.end, MOST_FIELDS_OF_ENTRY):
        if inner.number == KEY and inner.wire_type == 2:
            key = bytes(view[inner.body : min(inner.end, inner.body + 256)])  # ours are short
        elif inner.number == VALUE and inner.wire_type == 2:
            value = (inner.body, inner.end)
    return _TopLevel(field, EARLIER_KEYS.get(key, key), value)


def _entry(fields: list[_TopLevel], view: memoryview, key: bytes, where: str) -> bytes:
    """The value of the entry with this key."""
    found = [field.value for field in fields if field.key == key]
    what = NAMES[key]
    if not found:
        hint = " (an ONNX file of another program?)" if key == MANIFEST else ""
        raise UsageError(f"{where}: the model has no {what}{hint}; {REMEDY}.")
    if len(found) > 1:
        raise UsageError(f"{where}: the model has {len(found)} entries for its {what} instead of one; {REMEDY}.")
    start, end = found[0]
    if end - start > LARGEST_ENTRY:
        raise UsageError(
            f"{where}: its {what} takes {(end - start) / 2**20:.0f} MiB, more than {LARGEST_ENTRY >> 20} MiB; {REMEDY}."
        )
    return bytes(view[start:end])


def _spans_of_network(fields: list[_TopLevel]) -> list[tuple[int, int]]:
    """The spans of bytes outside our entries."""
    return [(entry.field.start, entry.field.end) for entry in fields if not entry.key.startswith(OUR_PREFIX)]


def _sha256_of(view: memoryview, spans: list[tuple[int, int]]) -> str:
    digest = hashlib.sha256()
    for start, end in spans:
        with view[start:end] as span:
            digest.update(span)
    return digest.hexdigest()


def decode_golden(encoded: str | bytes, manifest: Manifest, where: str, remedy: str = REMEDY) -> Golden:
    """Decode a golden sample, a safetensors file in base64, and check it against the manifest.

    Raises:
        UsageError: it is not valid, or not the manifest's; the sentence begins with `where` and ends with `remedy`.
    """
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise UsageError(f"{where}: its golden sample is not base64 ({reason_of(error)}); {remedy}.") from error
    if hashlib.sha256(data).hexdigest() != manifest.golden_sha256:
        raise UsageError(f"{where}: its golden sample is not the one that its manifest names; {remedy}.")
    try:
        tensors = load_safetensors(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise UsageError(
            f"{where}: its golden sample is not a safetensors file ({reason_of(error)}); {remedy}."
        ) from error
    size, labels = manifest.image_size, len(manifest.labels)
    expected = f"images uint8 [n, {size}, {size}, 3] and scores float32 [n, {labels}] in [0, 1]"
    found = ", ".join(f"{name} {tensor.dtype} {list(tensor.shape)}" for name, tensor in sorted(tensors.items()))
    images, scores = tensors.get("images"), tensors.get("scores")
    if (
        images is None
        or scores is None
        or len(tensors) != 2
        or images.dtype != np.uint8
        or scores.dtype != np.float32
        or images.shape != (len(scores), size, size, 3)
        or scores.shape != (len(images), labels)
        or len(images) == 0
        or not bool(((scores >= 0) & (scores <= 1)).all())
    ):
        raise UsageError(f"{where}: its golden sample holds {found or 'nothing'}, expected {expected}; {remedy}.")
    return Golden(images, scores)
