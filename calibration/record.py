"""The calibration record: ranges, and all that decides whether they hold for a model. JSON beside the model file."""

import json
import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlzsl.calibration.qdq import Range
from mlzsl.calibration.ranges import METHODS
from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import written_atomically
from mlzsl.engines.artifact.manifest import Manifest

FORMAT = "mlzsl calibration 1"
SUFFIX = ".calibration.json"
MAX_BYTES = 64 * 2**20
MOST_RANGES = 100_000
REMEDY = "calibrate again, without --record"


@dataclass(frozen=True)
class Record:
    """What one calibration found.

    Attributes:
        model_sha256: the fp32 file's `network_sha256`.
        preprocessing: of the photos, as the manifest has it.
        method: how ranges were chosen, one of METHODS.
        photos: how many calibrated.
        seed: that chose them.
        data_sha256: of the photos' pixels as the network saw them, in their order.
        ranges: lowest and highest value of every tensor that a Q/DQ pair may stand on.
    """

    model_sha256: str
    preprocessing: dict[str, Any]
    method: str
    photos: int
    seed: int
    data_sha256: str
    ranges: dict[str, Range]


def write_record(path: Path, record: Record) -> None:
    """Write a record, whole or not at all."""
    text = json.dumps({"format": FORMAT} | asdict(record), indent=1, allow_nan=False)
    with written_atomically(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_record(path: Path) -> Record:
    """Read a record that anybody may have written.

    Raises:
        UsageError: it is missing, or is no calibration record.
    """
    try:
        if not path.is_file():
            raise UsageError(f"--record {path}: no such file; {REMEDY}.")
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"--record {path}: larger than {MAX_BYTES >> 20} MiB, so no calibration record.")
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"--record {path}: is not JSON that can be read ({error}); {REMEDY}.") from error
    found = fields.pop("format", None) if isinstance(fields, dict) else None
    if found != FORMAT:
        raise UsageError(f"--record {path}: its format is {found!r}, expected {FORMAT!r}; {REMEDY}.")
    if set(fields) != set(Record.__dataclass_fields__) or not _sound(fields):
        raise UsageError(f"--record {path}: a field is missing, unknown or of the wrong kind; {REMEDY}.")
    ranges = {name: (float(low), float(high)) for name, (low, high) in fields.pop("ranges").items()}
    return Record(**fields, ranges=ranges)


def check_record(
    path: Path, record: Record, model: Path, manifest: Manifest, asked: dict[str, object], tensors: Collection[str]
) -> None:
    """Refuse a record that is not of this model, or not of what was asked for.

    Args:
        path: the record's.
        record: what it holds.
        model: the fp32 model file.
        manifest: the model's.
        asked: fields of the record that are decided already, with what they must be.
        tensors: whose ranges are needed.

    Raises:
        UsageError: it does not fit; the sentence says in what.
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
                f"--record {path}: its {WORDS[name]} is {_short(found)}, and now it would be {_short(wanted)}; "
                f"ask for the same, or {REMEDY}."
            )
    missing = sorted(set(tensors) - record.ranges.keys())
    if missing:
        raise UsageError(
            f"--record {path}: lacks the ranges of {len(missing)} tensors, such as {missing[0]}; {REMEDY}."
        )


WORDS = {
    "preprocessing": "preprocessing",
    "method": "method",
    "photos": "number of photos",
    "seed": "seed",
    "data_sha256": "photos' SHA-256",
}


def _short(value: object) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else str(value)


def _sound(fields: dict[str, Any]) -> bool:
    ranges = fields["ranges"]
    return (
        all(isinstance(fields[name], str) and len(fields[name]) == 64 for name in ("model_sha256", "data_sha256"))
        and isinstance(fields["preprocessing"], dict)
        and fields["method"] in METHODS
        and type(fields["photos"]) is int
        and type(fields["seed"]) is int
        and isinstance(ranges, dict)
        and len(ranges) <= MOST_RANGES
        and all(_is_range(bounds) for bounds in ranges.values())
    )


def _is_range(bounds: object) -> bool:
    return (
        isinstance(bounds, list)
        and len(bounds) == 2
        and all(type(bound) in (int, float) and math.isfinite(bound) for bound in bounds)
        and bounds[0] <= bounds[1]
    )
