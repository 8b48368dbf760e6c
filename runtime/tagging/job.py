"""One tagging job: photos in, a file of tags and the record of the run out; broken off, it can go on."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.outputs import written_atomically
from mlzsl.cli.progress import log, progress
from mlzsl.imaging.finding import STANDARD_INPUT, find_images
from mlzsl.runtime.io.inputs import PATH_COLUMN, find_photos, holds_photos
from mlzsl.runtime.io.records import read_records
from mlzsl.runtime.io.writers import STANDARD_OUTPUT, check_output, write_line, write_output
from mlzsl.runtime.photos import Photo
from mlzsl.runtime.tagging.journal import Journal, open_journal
from mlzsl.runtime.tagging.tagger import Tagger
from mlzsl.runtime.tags import Tagged

REASONS_KEPT = 5
PHOTOS_KEPT = 12


@dataclass(frozen=True)
class TaggingResult:
    """What a job did.

    Attributes:
        tagged: photos that were tagged.
        unreadable: photos that were not, each recorded with its reason.
        resumed: how many of both were taken over from the job that was broken off.
        seconds: from the first photo to the last, without those taken over.
        reasons: the first few unreadable photos.
        sample: the first few tagged photos.
        passed_over: files in folders and shards that are no images by their names, by suffix.
        record: the record of the run, as it stands beside the tags.
    """

    tagged: int
    unreadable: int
    resumed: int
    seconds: float
    reasons: tuple[Tagged, ...]
    sample: tuple[Tagged, ...]
    skipped: Counter[str]
    record: dict[str, Any]

    @property
    def photos_per_second(self) -> float:
        """All photos that this run worked on, the unreadable ones included."""
        return (self.tagged + self.unreadable - self.resumed) / self.seconds if self.seconds > 0 else 0.0


def record_path(output: str) -> Path:
    """Where the record of a run lies: beside the tags that it made."""
    return Path(output + ".run.json")


def tag_to_file(
    tagger: Tagger,
    inputs: Sequence[str | os.PathLike[str]],
    output: str,
    model: Path,
    quiet: bool = False,
    path_column: str = PATH_COLUMN,
    resume: bool = False,
    restart: bool = False,
) -> TaggingResult:
    """Tag photos and write their tags, and beside them the record of the run.

    Until all photos are done, finished ones are kept in a journal beside the output (`runtime.tagging.journal`), so
    that an interrupted job resumes and its output is byte-identical.

    Args:
        tagger: the opened model.
        inputs: files, folders, patterns, shards, tables, or `-`; see `runtime.io.inputs.find_photos`.
        output: a `.jsonl`, `.csv` or `.parquet` file, or `-` for standard output (then there is neither a journal nor
            a record beside it).
        model: where the model lies, for the record.
        quiet: show no progress.
        path_column: the column of tables that holds paths.
        resume: go on with an unfinished job where there is one.
        restart: throw an unfinished job away.

    Raises:
        UsageError: an input or the output is unfit, or there is an unfinished job that does not fit.
        FailureError: not one photo could be read, or the output cannot be written.
    """
    check_output(output, tagger.manifest)
    names = [os.fspath(name) for name in inputs]
    skipped = Counter[str]()
    total, job = _job(tagger, names, path_column)
    photos = find_photos(names, path_column, skipped=skipped)
    if output == STANDARD_OUTPUT:
        if resume or restart:
            raise UsageError("--resume and --restart: standard output keeps nothing to go on with; name a file.")
        counts = _Counts()
        with progress("tagging", total, "photos", quiet) as bar:
            for photo in tagger.tag(photos):
                write_line(photo)
                bar.advance(note=counts.add(photo))
        return _outcome(tagger, model, counts, skipped)
    with open_journal(output, job, tagger.batch_size, resume, restart) as journal, _kept(journal, output, quiet):
        counts = _taken_over(journal, photos)
        left = None if total is None else total - counts.resumed
        with progress("tagging", left, "photos", quiet) as bar:
            for photo in tagger.tag(photos):
                journal.write(photo)
                bar.advance(note=counts.add(photo))
        journal.sync()
        outcome = _outcome(tagger, model, counts, skipped)
        with written_atomically(record_path(output)) as temporary:
            temporary.write_text(json.dumps(outcome.record, indent=2) + "\n", encoding="utf-8")
        write_output(journal.records, output)
        journal.finish()
    if not outcome.tagged:
        raise _nothing_tagged(outcome)
    return outcome


@dataclass
class _Counts:
    """What has become of the photos so far."""

    tagged: int = 0
    unreadable: int = 0
    resumed: int = 0
    reasons: list[Tagged] = field(default_factory=list)
    sample: list[Tagged] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def add(self, photo: Tagged) -> str:
        """Count a photo; returns a note for the progress."""
        if photo.error is None:
            self.tagged += 1
            if len(self.sample) < PHOTOS_KEPT:
                self.sample.append(photo)
        else:
            self.unreadable += 1
            if len(self.reasons) < REASONS_KEPT:
                self.reasons.append(photo)
        return f"{self.unreadable} unreadable" if self.unreadable else ""


def _job(tagger: Tagger, names: list[str], path_column: str) -> tuple[int | None, dict[str, Any]]:
    """How many photos there are, where that can be known; and what must be the same when the job goes on."""
    job = {
        "model": tagger.manifest.network_sha256,
        "engine": str(tagger.execution),
        "labels": [label.name for label in tagger.manifest.labels],
        "preprocessing": tagger.manifest.preprocessing,
        "rule for tags": tagger.selection.to_json(),
        "batch size": tagger.batch_size,
        "number of threads": tagger.threads,
        "path column": path_column,
        "input": [ascii(name) for name in names],
    }
    if STANDARD_INPUT in names:
        return None, job
    count, countable, digest = 0, True, hashlib.sha256()
    for path in find_images(names):
        count += 1
        countable = countable and not holds_photos(path)
        digest.update(os.fsencode(path) + b"\0")
    return count if countable else None, job | {"number of files": count, "list of files": digest.hexdigest()}


def _taken_over(journal: Journal, photos: Iterator[Photo]) -> _Counts:
    """Count what the journal holds, and pass over these photos, which must be the first of the input."""
    counts = _Counts(resumed=journal.done)
    for done in read_records(journal.records):
        photo = next(photos, None)
        if photo is None or photo.path != done.path:
            found = "nothing more" if photo is None else Tagged(photo.path).name
            raise UsageError(
                f"--resume: the photos are no longer those that the job in {journal.folder} began with (it has "
                f"{done.name} where there is now {found}); begin anew with --restart."
            )
        counts.add(done)
    counts.started = time.perf_counter()
    return counts


@contextlib.contextmanager
def _kept(journal: Journal, output: str, quiet: bool) -> Iterator[None]:
    """Say, when a job is broken off, what is kept and how it goes on."""
    try:
        yield
    except (FailureError, KeyboardInterrupt) as error:
        if not journal.done:
            raise
        kept = f"What is done is kept in {journal.folder}: go on with --resume."
        if isinstance(error, FailureError):
            raise FailureError(f"{error} {kept}") from error
        log(kept, quiet)
        raise


def _outcome(tagger: Tagger, model: Path, counts: _Counts, skipped: Counter[str]) -> TaggingResult:
    seconds = time.perf_counter() - counts.started
    manifest = tagger.manifest
    record = {
        "mlzsl": importlib.metadata.version("mlzsl"),
        "engine": {
            "file": os.fspath(model),
            "network_sha256": manifest.network_sha256,
            "system": manifest.model,
            "backbone": manifest.backbone,
            "labels": len(manifest.labels),
            "unseen": [label.name for label in manifest.labels if not label.seen],
        },
        "running": dataclasses.asdict(tagger.execution),
        "certificate": None if tagger.certificate is None else tagger.certificate.to_json(),
        "preprocessing": manifest.preprocessing,
        "selection": tagger.selection.to_json(),
        "batch_size": tagger.batch_size,
        "photos": {
            "tagged": counts.tagged,
            "unreadable": counts.unreadable,
            "passed_over": skipped.total(),
        },
        "resumed": counts.resumed,
        "seconds": round(seconds, 3),
    }
    reasons, sample = tuple(counts.reasons), tuple(counts.sample)
    return TaggingResult(counts.tagged, counts.unreadable, counts.resumed, seconds, reasons, sample, skipped, record)


def _nothing_tagged(outcome: TaggingResult) -> FailureError:
    if not outcome.reasons:
        return FailureError("the input names no photo; nothing was tagged.")
    first = outcome.reasons[0]
    return FailureError(
        f"none of the {outcome.unreadable} image{'s' if outcome.unreadable > 1 else ''} could be read "
        f"(first: {first.name}: {first.error}); nothing was tagged."
    )
