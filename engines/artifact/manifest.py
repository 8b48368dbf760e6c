"""The manifest of a model file: JSON inside an `.onnx` file and beside a TensorRT plan."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from mlzsl.cli.errors import UsageError
from mlzsl.cli.json_decoding import Fraction, Line, Sha256, convert_json, decode_json, shorten_json
from mlzsl.engines.artifact.certificate import Certificate
from mlzsl.imaging import Preprocessing

SCHEMA_VERSION = 2
Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
Target = Literal["tensorrt", "openvino", "onnxruntime"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
QUANTIZED_FOR: tuple[str, ...] = get_args(Target)
REMEDY = "re-export it with mlzsl-export"


class Label(Struct, frozen=True, forbid_unknown_fields=True):
    """One output of the network.

    Attributes:
        name: the tag of a photo.
        synset: its WordNet 3.0 noun synset, such as `dog.n.01`; None if it has none.
        seen: whether the label was trained; the others are zero-shot.
        threshold: of the score, in [0, 1]; None where none was chosen.
    """

    name: Line
    synset: Line | None
    seen: bool
    threshold: Fraction | None = None


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """What a model file is, what it was made from, and how to preprocess its input.

    Attributes:
        schema_version: the version of this record.
        model: the trained model, such as "RGCN-PosVAE".
        backbone: its feature extractor, such as "resnet50".
        labels: in the order of the network's outputs, names unique.
        preprocessing: as `imaging.Preprocessing.to_json` writes it.
        graph: provenance of the class graph: threshold, sources, node and edge counts.
        precision: one of PRECISIONS, which an engine must run.
        sources: SHA-256 of the files it was made from, by name.
        network_sha256: of the model file's bytes without our own metadata.
        golden_sha256: of the golden sample.
        certificates: one for each engine and precision that was certified.
        quantized_for: the backend whose QDQ patterns an INT8 or FP8 file has, one of QUANTIZED_FOR; None otherwise.
        backbone_license: of the backbone's published weights, an SPDX identifier or "unknown".
    """

    schema_version: Annotated[int, Meta(ge=1, description="a whole number from 1 up")]
    model: Line
    backbone: Line
    labels: Annotated[tuple[Label, ...], Meta(min_length=1)]
    preprocessing: dict[str, Any]
    graph: dict[str, Any]
    precision: Precision
    sources: dict[str, Sha256]
    network_sha256: Sha256
    golden_sha256: Sha256
    certificates: Annotated[tuple[Certificate, ...], Meta(max_length=64)] = ()
    quantized_for: Target | None = None
    backbone_license: Line = "unknown"

    def __post_init__(self) -> None:
        name, count = Counter(label.name for label in self.labels).most_common(1)[0]
        if count > 1:
            raise ValueError(f"label {shorten_json(name)} occurs {count} times")
        if len({(made.network_sha256, made.engine) for made in self.certificates}) < len(self.certificates):
            raise ValueError("certificates has two for one engine")
        try:
            Preprocessing.from_json(self.preprocessing)
        except UsageError as error:
            raise ValueError(f"preprocessing: {str(error).rstrip('.')}") from error

    @property
    def image_size(self) -> int:
        """S, the side in pixels of the network's images."""
        return Preprocessing.from_json(self.preprocessing).size

    def to_json(self) -> str:
        """The manifest as JSON text."""
        return json.dumps(msgspec.to_builtins(self), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "Manifest":
        """Read the manifest of a file that need not be trusted; see `from_record`."""
        return cls.from_record(decode_json(text, Any, f"{where}: its manifest", REMEDY), where)

    @classmethod
    def from_record(cls, record: object, where: str) -> "Manifest":
        """Read a manifest of this or an earlier version.

        Args:
            record: decoded JSON.
            where: the file that it was found in, for messages.

        Raises:
            UsageError: a field is missing, unknown or not valid; the sentence names `where`, the field and the remedy.
        """
        where = f"{where}: its manifest"
        if isinstance(record, dict):
            record = _upgrade(record, where)
        return convert_json(record, cls, where, REMEDY)

    def certificate_for(self, backend: str, provider: str, precision: str) -> Certificate | None:
        """The certificate of this network on an engine, None where there is none."""
        wanted = (self.network_sha256, (backend, provider, precision))
        return next((made for made in self.certificates if (made.network_sha256, made.engine) == wanted), None)

    def certified(self, certificate: Certificate) -> "Manifest":
        """The manifest with a certificate, which replaces that of the same engine and those of other networks."""
        kept = [
            other
            for other in self.certificates
            if other.network_sha256 == self.network_sha256 and other.engine != certificate.engine
        ]
        return replace(self, certificates=(*kept, certificate))

    def with_thresholds(self, thresholds: Sequence[float]) -> "Manifest":
        """The manifest with other thresholds, one for each label in order.

        Certificates are dropped where a threshold changes: they count flipped tags at the old ones.
        """
        labels = tuple(
            replace(label, threshold=float(threshold)) for label, threshold in zip(self.labels, thresholds, strict=True)
        )
        return replace(self, labels=labels, certificates=self.certificates if labels == self.labels else ())


def _upgrade(record: dict[str, Any], where: str) -> dict[str, Any]:
    """A manifest of version 1 as one of SCHEMA_VERSION; one of a later version is refused."""
    version = record.get("schema_version")
    if type(version) is int and version > SCHEMA_VERSION:
        raise UsageError(
            f"{where} has schema version {version}, and this mlzsl reads version {SCHEMA_VERSION}; upgrade with "
            f"`pip install --upgrade mlzsl`, or {REMEDY} of this version."
        )
    if type(version) is int and version == 1:
        return {"model" if name == "system" else name: value for name, value in record.items()} | {
            "schema_version": SCHEMA_VERSION
        }
    return record
