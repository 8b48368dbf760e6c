"""The calibration record: the ranges of a model's tensors and what they are valid for, JSON beside the model file."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from mlzsl.cli.errors import UsageError
from mlzsl.cli.json_decoding import Count, Finite, Sha256, read_json
from mlzsl.cli.outputs import written_atomically
from mlzsl.engines.artifact.manifest import Manifest

SUFFIX = ".calibration.json"
MAX_BYTES = 64 * 2**20
REMEDY = "calibrate again, without --record"
NAMES = {"photos": "number of photos", "data_sha256": "photos' SHA-256"}  # of fields, in sentences


class Record(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The result of one calibration.

    Attributes:
        format: name and version of the format.
        model_sha256: the fp32 file's `network_sha256`.
        preprocessing: of the photos, as in the manifest.
        method: how ranges were chosen, one of `ranges.METHODS`.
        photos: number of photos.
        seed: of the choice of photos.
        data_sha256: of the photos' images in order.
        ranges: lowest and highest value of every tensor that a QDQ scheme quantizes.
    """

    format: Literal["mlzsl calibration 1"] = "mlzsl calibration 1"
    model_sha256: Sha256
    preprocessing: dict[str, Any]
    method: Literal["mse", "entropy", "percentile", "minmax"]
    photos: Count
    seed: Count
    data_sha256: Sha256
    ranges: Annotated[dict[str, tuple[Finite, Finite]], Meta(max_length=100_000)]

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            if low > high:
                raise ValueError(f"the range of {name} is {low:g} to {high:g}, expected low ≤ high")


def write_record(path: Path, record: Record) -> None:
    """Write a record atomically."""
    text = json.dumps(msgspec.to_builtins(record), indent=1, allow_nan=False)
    with written_atomically(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_record(path: Path) -> Record:
    """Read a record that need not be trusted.

    Raises:
        UsageError: it is missing, or not a calibration record; the sentence names the field.
    """
    return read_json(path, Record, REMEDY, MAX_BYTES)


def check_record(
    path: Path, record: Record, model: Path, manifest: Manifest, asked: dict[str, object], tensors: Collection[str]
) -> None:
    """Refuse a record of another model or of other settings.

    Args:
        path: the record's.
        record: its content.
        model: the fp32 model file.
        manifest: the model's.
        asked: fields of the record that are decided already, with the values that they must have.
        tensors: names of the tensors whose ranges are needed.

    Raises:
        UsageError: the sentence names the field that differs.
    """
    if record.model_sha256 != manifest.network_sha256:
        raise UsageError(
            f"--record {path}: is of another model (network SHA-256 {record.model_sha256[:12]}…, and {model} has "
            f"{manifest.network_sha256[:12]}…); {REMEDY}."
        )
    for name, wanted in {"preprocessing": manifest.preprocessing, **asked}.items():
        found = getattr(record, name)
        if found != wanted:
            raise UsageError(
                f"--record {path}: its {NAMES.get(name, name)} is {_short(found)}, expected {_short(wanted)} as now; "
                f"use the same, or {REMEDY}."
            )
    missing = sorted(set(tensors) - record.ranges.keys())
    if missing:
        raise UsageError(
            f"--record {path}: lacks the ranges of {len(missing)} tensors, such as {missing[0]}; {REMEDY}."
        )


def _short(value: object) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else str(value)
