"""The manifest: what every model file says of itself, in JSON, so that nothing about it has to be guessed.

It knows nothing of ONNX: the same text stands inside an `.onnx` file and beside a compiled plan.
"""

import dataclasses
import json
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Any

from mlzsl.imaging import Preprocessing
from mlzsl.shell.errors import UsageError

SCHEMA_VERSION = 1
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
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
        system: the trained system, such as "RGCN-PosVAE".
        backbone: its feature extractor, such as "resnet50".
        labels: in the order of the network's outputs; names differ from each other.
        preprocessing: how a photo becomes the network's input, as `imaging.Preprocessing` writes itself.
        graph: provenance of the class graph: threshold, sources, node and edge counts.
        precision: one of PRECISIONS, which an engine must run.
        sources: what the file was made from, name to SHA-256.
        network_sha256: of the model file's bytes without our own metadata.
        golden_sha256: of the golden sample.
    """

    schema_version: int
    system: str
    backbone: str
    labels: tuple[Label, ...]
    preprocessing: dict[str, Any]
    graph: dict[str, Any]
    precision: str
    sources: dict[str, str]
    network_sha256: str
    golden_sha256: str

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
            record = json.loads(text, parse_constant=_no_such_number)
        except (ValueError, RecursionError) as error:
            reason = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
            raise UsageError(f"{where}: its manifest is not valid JSON ({reason}); {REMEDY}.") from error
        try:
            return _read(record)
        except _UnfitError as unfit:
            raise UsageError(f"{where}: its manifest is unfit: {unfit}; {unfit.remedy}.") from unfit


class _UnfitError(Exception):
    """What is wrong with a manifest, as the middle of a sentence."""

    def __init__(self, what: str, remedy: str = REMEDY) -> None:
        super().__init__(what)
        self.remedy = remedy


def _read(record: object) -> Manifest:
    fields = _object("the manifest", record)
    version = fields.get("schema_version")
    if type(version) is not int or version < 1:
        raise _UnfitError(f"schema_version is {_shown(version)}, not a whole number from 1 up")
    if version > SCHEMA_VERSION:
        raise _UnfitError(
            f"its schema version is {version}, and this mlzsl reads version {SCHEMA_VERSION}",
            "upgrade with `pip install --upgrade mlzsl`, or " + REMEDY + " of this version",
        )
    _exactly("the manifest", fields, Manifest)
    labels = tuple(_label(place, entry) for place, entry in enumerate(_list("labels", fields["labels"])))
    if not labels:
        raise _UnfitError("labels is empty")
    name, count = Counter(label.name for label in labels).most_common(1)[0]
    if count > 1:
        raise _UnfitError(f"label {_shown(name)} is there {count} times")
    if fields["precision"] not in PRECISIONS:
        raise _UnfitError(f"precision is {_shown(fields['precision'])}, not one of {', '.join(PRECISIONS)}")
    sources = _object("sources", fields["sources"])
    return Manifest(
        schema_version=version,
        system=_text("system", fields["system"]),
        backbone=_text("backbone", fields["backbone"]),
        labels=labels,
        preprocessing=_preprocessing(fields["preprocessing"]),
        graph=_object("graph", fields["graph"]),
        precision=fields["precision"],
        sources={name: _sha256(f"sources.{name}", digest) for name, digest in sources.items()},
        network_sha256=_sha256("network_sha256", fields["network_sha256"]),
        golden_sha256=_sha256("golden_sha256", fields["golden_sha256"]),
    )


def _label(place: int, entry: object) -> Label:
    where = f"labels[{place}]"
    fields = _object(where, entry)
    _exactly(where, fields, Label)
    threshold = fields["threshold"]
    if threshold is not None and not (type(threshold) in (int, float) and 0 <= threshold <= 1):
        raise _UnfitError(f"{where}.threshold is {_shown(threshold)}, not null or a number from 0 to 1")
    if type(fields["seen"]) is not bool:
        raise _UnfitError(f"{where}.seen is {_shown(fields['seen'])}, not true or false")
    return Label(
        name=_text(f"{where}.name", fields["name"]),
        synset=_text(f"{where}.synset", fields["synset"]),
        seen=fields["seen"],
        threshold=None if threshold is None else float(threshold),
    )


def _preprocessing(value: object) -> dict[str, Any]:
    preprocessing = _object("preprocessing", value)
    try:
        Preprocessing.from_json(preprocessing)
    except UsageError as error:
        raise _UnfitError(str(error).rstrip(".")) from error
    return preprocessing


def _exactly(where: str, fields: dict[str, Any], kind: type[Any]) -> None:
    expected = {field.name for field in dataclasses.fields(kind)}
    missing, unknown = sorted(expected - fields.keys()), sorted(fields.keys() - expected)
    if missing:
        raise _UnfitError(f"{where} lacks {', '.join(missing)}")
    if unknown:
        raise _UnfitError(f"{where} has the unknown field {_shown(unknown[0])}")


def _object(where: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _UnfitError(f"{where} is {_shown(value)}, not an object")
    return value


def _list(where: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise _UnfitError(f"{where} is {_shown(value)}, not a list")
    return value


def _text(where: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or any(map(_is_control, value)):
        raise _UnfitError(f"{where} is {_shown(value)}, not a line of text")
    return value


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs")  # control characters, halves of surrogate pairs


def _sha256(where: str, value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise _UnfitError(f"{where} is {_shown(value)}, not a SHA-256 in 64 hexadecimal digits")
    return value


def _shown(value: object) -> str:
    """A value as JSON, short enough for a sentence."""
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _no_such_number(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")
