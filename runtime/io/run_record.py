"""Reading back the record of a run that lies beside its tags: what made them."""

import os
from dataclasses import dataclass
from pathlib import Path

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.certificate import Certificate
from mlzsl.engines.artifact.jsonfields import UnfitError, count_of, list_of, loads, object_of, text_of
from mlzsl.engines.engine import ExecutionInfo
from mlzsl.runtime.tagging.job import record_path

LARGEST_RECORD = 2**26  # bytes; 22,000 labels take 1 MB


@dataclass(frozen=True)
class RunRecord:
    """What made a file of tags.

    Attributes:
        model: the model file, as it was named.
        system, backbone: what it holds.
        labels: how many it has.
        unseen: the names of those that training never saw.
        running: what ran it.
        certificate: what vouched for that; None where nothing did.
        rule: how scores became tags, in words.
        photos: how many went through, unreadable ones included.
    """

    model: str
    system: str
    backbone: str
    labels: int
    unseen: tuple[str, ...]
    execution: ExecutionInfo
    certificate: Certificate | None
    rule: str
    photos: int


def read_run_record(tags: Path) -> RunRecord | None:
    """Read the record beside a file of tags; None where none is there.

    Raises:
        UsageError: it cannot be read, or is unfit.
    """
    path = record_path(os.fspath(tags))
    if not path.exists():
        return None
    try:
        if path.stat().st_size > LARGEST_RECORD:
            raise UnfitError(f"it has more than {LARGEST_RECORD >> 20} MiB")
        return _read(loads(path.read_bytes()))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except UnfitError as unfit:
        raise UsageError(f"{path}: is not the record of a run: {unfit}; move it away, or tag again.") from unfit


def _read(value: object) -> RunRecord:
    record = object_of("the record", value)
    engine = object_of("engine", record.get("engine"))
    execution = object_of("running", record.get("running"))
    certificate = record.get("certificate")
    photos = object_of("photos", record.get("photos"))
    selection = object_of("selection", record.get("selection"))
    names = ("backend", "version", "provider", "device", "precision")
    return RunRecord(
        model=_name("engine.file", engine.get("file")),
        system=text_of("engine.system", engine.get("system")),
        backbone=text_of("engine.backbone", engine.get("backbone")),
        labels=count_of("engine.labels", engine.get("labels")),
        unseen=tuple(text_of("engine.unseen", name) for name in list_of("engine.unseen", engine.get("unseen"))),
        execution=ExecutionInfo(**{name: text_of(f"running.{name}", execution.get(name)) for name in names}),
        certificate=None if certificate is None else Certificate.from_json("certificate", certificate),
        rule=text_of("selection.rule", selection.get("rule")),
        photos=sum(count_of(f"photos.{name}", photos.get(name)) for name in ("tagged", "unreadable")),
    )


def _name(where: str, value: object) -> str:
    """A file's name, which may hold what a line of text may not."""
    if not isinstance(value, str):
        raise UnfitError(f"{where} is no text")
    return value
