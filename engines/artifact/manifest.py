"""The manifest: what every model file says of itself, in JSON, so that nothing about it has to be guessed.

It knows nothing of ONNX: the same text stands inside an `.onnx` file and beside a compiled plan.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.certificate import Certificate, read_certificates
from mlzsl.engines.artifact.jsonfields import UnfitError, exactly, list_of, loads, object_of, sha256_of, shown, text_of
from mlzsl.imaging import Preprocessing

SCHEMA_VERSION = 2
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
QUANTIZED_FOR = ("tensorrt", "openvino", "onnxruntime")
REMEDY = "re-export it with mlzsl-export"


@dataclass(frozen=True)
class Label:
    """One output of the network.

    Attributes:
        name: what a photo is tagged with.
        synset: its WordNet 3.0 noun synset, `dog.n.01`.
        seen: whether training saw photos of it; the others are zero-shot.
        threshold: the score from which the label holds, in [0, 1]; None where none was chosen.
    """

    name: str
    synset: str
    seen: bool
    threshold: float | None = None


@dataclass(frozen=True)
class Manifest:
    """What a model file is, made from what, and how to feed it.

    Attributes:
        schema_version: the version of this record.
        model: the trained model, such as "RGCN-PosVAE".
        backbone: its feature extractor, such as "resnet50".
        labels: in the order of the network's outputs; names differ from each other.
        preprocessing: how a photo becomes the network's input, as `imaging.Preprocessing` writes itself.
        graph: provenance of the class graph: threshold, sources, node and edge counts.
        precision: one of PRECISIONS, which an engine must run.
        sources: what the file was made from, name to SHA-256.
        network_sha256: of the model file's bytes without our own metadata.
        golden_sha256: of the golden sample.
        certificates: what engines were found to be worth on this network, one an engine and precision.
        quantized_for: which of QUANTIZED_FOR the Q/DQ pairs of an INT8 or FP8 file are placed for; None in other files.
    """

    schema_version: int
    model: str
    backbone: str
    labels: tuple[Label, ...]
    preprocessing: dict[str, Any]
    graph: dict[str, Any]
    precision: str
    sources: dict[str, str]
    network_sha256: str
    golden_sha256: str
    certificates: tuple[Certificate, ...] = ()
    quantized_for: str | None = None

    @property
    def image_size(self) -> int:
        """S, the side in pixels of the pictures that the network takes."""
        return Preprocessing.from_json(self.preprocessing).size

    def to_json(self) -> str:
        """The manifest as JSON text; `from_json` reads it back equal."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "Manifest":
        """Read a manifest that anybody may have written.

        Args:
            text: JSON.
            where: the file that it was found in, for messages.

        Raises:
            UsageError: it is not JSON, or a field is missing, unknown or of the wrong kind; the sentence names
                `where`, the field and what to do.
        """
        try:
            record = loads(text)
        except UnfitError as unfit:
            raise UsageError(f"{where}: its manifest is not valid JSON ({unfit}); {REMEDY}.") from unfit
        try:
            return _read(record)
        except UnfitError as unfit:
            raise UsageError(f"{where}: its manifest is unfit: {unfit}; {unfit.remedy or REMEDY}.") from unfit

    def certificate_for(self, backend: str, provider: str, precision: str) -> Certificate | None:
        """The certificate of this network on an engine, None where there is none."""
        for certificate in self.certificates:
            if certificate.network_sha256 == self.network_sha256 and certificate.engine == (
                backend,
                provider,
                precision,
            ):
                return certificate
        return None

    def certified(self, certificate: Certificate) -> "Manifest":
        """The manifest with a certificate, instead of the one that it may have had for the same engine.

        Certificates of other networks, left over from a file that this one was made from, are dropped.
        """
        kept = [
            other
            for other in self.certificates
            if other.network_sha256 == self.network_sha256 and other.engine != certificate.engine
        ]
        return dataclasses.replace(self, certificates=(*kept, certificate))

    def with_thresholds(self, thresholds: Sequence[float]) -> "Manifest":
        """The manifest with other thresholds, one a label in their order.

        Certificates are dropped where any threshold changes: the tags that they counted as flipped were decided at
        the old ones.
        """
        labels = tuple(
            dataclasses.replace(label, threshold=float(threshold))
            for label, threshold in zip(self.labels, thresholds, strict=True)
        )
        return dataclasses.replace(self, labels=labels, certificates=self.certificates if labels == self.labels else ())


def _read(record: object) -> Manifest:
    fields = object_of("the manifest", record)
    version = fields.get("schema_version")
    if type(version) is not int or version < 1:
        raise UnfitError(f"schema_version is {shown(version)}, not a whole number from 1 up")
    if version > SCHEMA_VERSION:
        raise UnfitError(
            f"its schema version is {version}, and this mlzsl reads version {SCHEMA_VERSION}",
            "upgrade with `pip install --upgrade mlzsl`, or " + REMEDY + " of this version",
        )
    if version == 1 and "system" in fields:
        fields["model"] = fields.pop("system")
    exactly("the manifest", fields, Manifest, optional=("certificates", "quantized_for"))
    labels = tuple(_label(place, entry) for place, entry in enumerate(list_of("labels", fields["labels"])))
    if not labels:
        raise UnfitError("labels is empty")
    name, count = Counter(label.name for label in labels).most_common(1)[0]
    if count > 1:
        raise UnfitError(f"label {shown(name)} is there {count} times")
    if fields["precision"] not in PRECISIONS:
        raise UnfitError(f"precision is {shown(fields['precision'])}, not one of {', '.join(PRECISIONS)}")
    quantized_for = fields.get("quantized_for")
    if quantized_for is not None and quantized_for not in QUANTIZED_FOR:
        raise UnfitError(f"quantized_for is {shown(quantized_for)}, not null or one of {', '.join(QUANTIZED_FOR)}")
    sources = object_of("sources", fields["sources"])
    return Manifest(
        schema_version=SCHEMA_VERSION,
        model=text_of("model", fields["model"]),
        backbone=text_of("backbone", fields["backbone"]),
        labels=labels,
        preprocessing=_preprocessing(fields["preprocessing"]),
        graph=object_of("graph", fields["graph"]),
        precision=fields["precision"],
        sources={name: sha256_of(f"sources[{shown(name)}]", digest) for name, digest in sources.items()},
        network_sha256=sha256_of("network_sha256", fields["network_sha256"]),
        golden_sha256=sha256_of("golden_sha256", fields["golden_sha256"]),
        certificates=read_certificates(fields.get("certificates", [])),
        quantized_for=quantized_for,
    )


def _label(place: int, entry: object) -> Label:
    where = f"labels[{place}]"
    fields = object_of(where, entry)
    exactly(where, fields, Label)
    threshold = fields["threshold"]
    if threshold is not None and not (type(threshold) in (int, float) and 0 <= threshold <= 1):
        raise UnfitError(f"{where}.threshold is {shown(threshold)}, not null or a number from 0 to 1")
    if type(fields["seen"]) is not bool:
        raise UnfitError(f"{where}.seen is {shown(fields['seen'])}, not true or false")
    return Label(
        name=text_of(f"{where}.name", fields["name"]),
        synset=text_of(f"{where}.synset", fields["synset"]),
        seen=fields["seen"],
        threshold=None if threshold is None else float(threshold),
    )


def _preprocessing(value: object) -> dict[str, Any]:
    preprocessing = object_of("preprocessing", value)
    try:
        Preprocessing.from_json(preprocessing)
    except UsageError as error:
        raise UnfitError(str(error).rstrip(".")) from error
    return preprocessing
