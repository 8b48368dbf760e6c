"""The record of a run, stored beside its tags as `tags.jsonl.run.json`: what made them, and how."""

import os
from pathlib import Path
from typing import Any

from msgspec import Struct

from mlzsl.cli.json_decoding import Count, Line, read_json
from mlzsl.engines.artifact.certificate import Certificate
from mlzsl.engines.engine import ExecutionInfo

MAX_BYTES = 2**26  # 22,000 labels take 1 MB
NEW_KEYS = {"running": "execution", "system": "model", "passed_over": "skipped"}


class EngineRecord(Struct, frozen=True):
    """The model file.

    Attributes:
        file: its path, as it was given.
        network_sha256: of its network.
        model, backbone: their names.
        labels: how many it has.
        unseen: the names of those that training never saw.
    """

    file: str
    network_sha256: str
    model: Line
    backbone: Line
    labels: Count
    unseen: tuple[Line, ...]


class SelectionRecord(Struct, frozen=True):
    """The rule that selected tags, as `Selection.to_json` gives it; `rule` is its description."""

    top_k: int | None
    threshold: float | tuple[float, ...] | None
    rule: Line


class PhotoCounts(Struct, frozen=True, omit_defaults=True):
    """How many photos and files there were; the last two are stored if they are not 0.

    Attributes:
        tagged: photos that were tagged.
        unreadable: photos that could not be read.
        skipped: files skipped because of their suffix.
        not_done: photos without a record, because the machine failed to read them.
        with_note: tagged photos with a note.
    """

    tagged: Count
    unreadable: Count
    skipped: Count
    not_done: Count = 0
    with_note: Count = 0


class RunRecord(Struct, frozen=True):
    """What made a file of tags.

    Attributes:
        mlzsl: its version.
        engine: the model file.
        execution: backend, provider, device and precision that ran it.
        certificate: of this engine; None if it has none.
        preprocessing: of the photos, as in the manifest.
        selection: the rule that selected tags.
        batch_size: photos per batch.
        photos: counts over the whole job.
        resumed: how many of them an interrupted run had done.
        seconds: from the first photo to the last, without those.
        path_column: of tables; mlzsl 0.1 did not write it.
    """

    mlzsl: str
    engine: EngineRecord
    execution: ExecutionInfo
    certificate: Certificate | None
    preprocessing: dict[str, Any]
    selection: SelectionRecord
    batch_size: int
    photos: PhotoCounts
    resumed: Count
    seconds: float
    path_column: str = "path"


def record_path(output: str) -> Path:
    """The path of the record of a run, beside the tags."""
    return Path(output + ".run.json")


def read_run_record(tags: Path) -> RunRecord | None:
    """Read the record beside a file of tags; None if there is none.

    Raises:
        UsageError: it cannot be read, or is invalid.
    """
    path = record_path(os.fspath(tags))
    if not path.exists():
        return None
    return read_json(path, RunRecord, "move it away, or tag the photos again", MAX_BYTES, _upgrade)


def _upgrade(fields: dict[str, Any]) -> dict[str, Any]:
    """Rename the keys of mlzsl 0.1, in nested objects too."""
    return {
        NEW_KEYS.get(key, key): _upgrade(value) if isinstance(value, dict) else value for key, value in fields.items()
    }
