"""One tagging job: photos in, a file of tags and the record of the run out."""

import dataclasses
import importlib.metadata
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlzsl.runtime.sources import STANDARD_INPUT, find_images
from mlzsl.runtime.tagger import Tagger
from mlzsl.runtime.tags import Tagged
from mlzsl.runtime.writers import STANDARD_OUTPUT, check_output, open_writer
from mlzsl.shell.errors import FailureError
from mlzsl.shell.outputs import written_atomically
from mlzsl.shell.progress import progress

REASONS_KEPT = 5
PHOTOS_KEPT = 12


@dataclass(frozen=True)
class Outcome:
    """What a job did.

    Attributes:
        tagged: photos that were tagged.
        unreadable: photos that were not, each recorded with its reason.
        seconds: from the first photo to the last.
        reasons: the first few unreadable photos.
        sample: the first few tagged photos.
        passed_over: files in folders that are no images by their names, by suffix.
        record: the record of the run, as it stands beside the tags.
    """

    tagged: int
    unreadable: int
    seconds: float
    reasons: tuple[Tagged, ...]
    sample: tuple[Tagged, ...]
    passed_over: Counter[str]
    record: dict[str, Any]

    @property
    def photos_per_second(self) -> float:
        """All photos, the unreadable ones included."""
        return (self.tagged + self.unreadable) / self.seconds if self.seconds > 0 else 0.0


def record_path(output: str) -> Path:
    """Where the record of a run lies: beside the tags that it made."""
    return Path(output + ".run.json")


def tag_to_file(
    tagger: Tagger, inputs: Sequence[str | os.PathLike[str]], output: str, model: Path, quiet: bool = False
) -> Outcome:
    """Tag photos and write their tags, and beside them the record of the run.

    Args:
        tagger: the opened model.
        inputs: files, folders, patterns, or `-`; see `runtime.sources.find_images`.
        output: a `.jsonl` or `.csv` file, or `-` for standard output (then there is no record beside it).
        model: where the model lies, for the record.
        quiet: show no progress.

    Raises:
        UsageError: an input or the output is unfit.
        FailureError: not one photo could be read, or the output cannot be written.
    """
    check_output(output, tagger.manifest)
    names = [os.fspath(name) for name in inputs]
    total = None if STANDARD_INPUT in names else sum(1 for _ in find_images(names))
    tagged = unreadable = 0
    reasons: list[Tagged] = []
    sample: list[Tagged] = []
    passed_over = Counter[str]()
    with progress("tagging", total, "photos", quiet) as bar, open_writer(output, tagger.manifest) as writer:
        started = time.perf_counter()
        for photo in tagger.tag(find_images(names, passed_over=passed_over)):
            writer.write(photo)
            if photo.error is None:
                tagged += 1
                if len(sample) < PHOTOS_KEPT:
                    sample.append(photo)
            else:
                unreadable += 1
                if len(reasons) < REASONS_KEPT:
                    reasons.append(photo)
            bar.advance(note=f"{unreadable} unreadable" if unreadable else "")
        seconds = time.perf_counter() - started
    photos = {"tagged": tagged, "unreadable": unreadable, "passed_over": passed_over.total()}
    record = _record(tagger, model, photos, seconds)
    if output != STANDARD_OUTPUT:
        _write_record(record_path(output), record)
    if not tagged:
        first = reasons[0]
        raise FailureError(
            f"none of the {unreadable} image{'s' if unreadable > 1 else ''} could be read "
            f"(first: {first.name}: {first.error}); nothing was tagged."
        )
    return Outcome(tagged, unreadable, seconds, tuple(reasons), tuple(sample), passed_over, record)


def _record(tagger: Tagger, model: Path, photos: dict[str, int], seconds: float) -> dict[str, Any]:
    manifest = tagger.manifest
    return {
        "mlzsl": importlib.metadata.version("mlzsl"),
        "engine": {
            "file": os.fspath(model),
            "network_sha256": manifest.network_sha256,
            "system": manifest.system,
            "backbone": manifest.backbone,
            "labels": len(manifest.labels),
            "unseen": [label.name for label in manifest.labels if not label.seen],
        },
        "running": dataclasses.asdict(tagger.running),
        "certificate": None if tagger.certificate is None else tagger.certificate.to_json(),
        "preprocessing": manifest.preprocessing,
        "selection": tagger.selection.to_json(),
        "batch_size": tagger.batch_size,
        "photos": photos,
        "seconds": round(seconds, 3),
    }


def _write_record(path: Path, record: dict[str, Any]) -> None:
    with written_atomically(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
