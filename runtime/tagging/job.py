"""A tagging job: writes photos' tags to a file, and the record of the run beside it; resumes if interrupted."""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.outputs import written_atomically
from mlzsl.cli.progress import log, progress
from mlzsl.cli.text import plural
from mlzsl.imaging.finding import STANDARD_INPUT, read_list
from mlzsl.imaging.versions import decoder_versions
from mlzsl.runtime.io.inputs import PATH_COLUMN, PhotoInputs, holds_photos, open_inputs
from mlzsl.runtime.io.run_record import EngineRecord, PhotoCounts, RunRecord, SelectionRecord, record_path
from mlzsl.runtime.io.tag_files import STANDARD_OUTPUT, check_output, read_records, write_line, write_output
from mlzsl.runtime.tagging.journal import Journal, open_journal
from mlzsl.runtime.tagging.tagger import Tagger
from mlzsl.runtime.tags import Photo, Tagged

MAX_ERRORS = 5
MAX_SAMPLE = 12
MAX_LISTING = 64 * 2**20  # bytes of paths that are kept in memory


@dataclass
class TaggingResult:
    """What a job did.

    Attributes:
        tagged: number of photos that were tagged.
        unreadable: number of photos that were not; each is recorded with its error.
        resumed: how many of both the interrupted run had done.
        seconds: from the first photo to the last, without those.
        errors: the first few unreadable photos.
        sample: the first few tagged photos.
        skipped: files in folders and shards that are not images by their names, by suffix.
        record: of the run, as stored beside the tags.
    """

    tagged: int = 0
    unreadable: int = 0
    resumed: int = 0
    seconds: float = 0.0
    errors: list[Tagged] = field(default_factory=list)
    sample: list[Tagged] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    record: RunRecord = field(init=False)

    @property
    def photos_per_second(self) -> float:
        """Of the photos of this run, unreadable ones included."""
        return (self.tagged + self.unreadable - self.resumed) / self.seconds if self.seconds > 0 else 0.0

    def add(self, photo: Tagged) -> str:
        """Count a photo; returns a note for the progress."""
        self.tagged += photo.error is None
        self.unreadable += photo.error is not None
        kept, most = (self.sample, MAX_SAMPLE) if photo.error is None else (self.errors, MAX_ERRORS)
        if len(kept) < most:
            kept.append(photo)
        return f"{self.unreadable} unreadable" if self.unreadable else ""


def tag_to_file(
    tagger: Tagger,
    inputs: Sequence[str | os.PathLike[str]] | PhotoInputs,
    output: str,
    model: Path,
    quiet: bool = False,
    path_column: str = PATH_COLUMN,
    resume: bool = False,
    restart: bool = False,
) -> TaggingResult:
    """Tag photos and write their tags, and the record of the run beside them.

    Until all photos are done, finished ones are kept in a journal beside the output (`runtime.tagging.journal`): an
    interrupted job resumes, and its output is byte-identical to that of an uninterrupted one.

    Args:
        tagger: the open model.
        inputs: files, folders, patterns, shards, tables, or `-`, or what `runtime.io.inputs.open_inputs` made of them.
        output: a `.jsonl`, `.csv` or `.parquet` file, or `-` for standard output, which has no journal and no record.
        model: the path of the model file, for the record.
        quiet: show no progress.
        path_column: the column of tables with the paths, for inputs that are not open.
        resume: resume an unfinished job if there is one.
        restart: delete an unfinished job.

    Raises:
        UsageError: an input or the output is invalid, or an unfinished job has other settings.
        FailureError: not one photo could be read, or the output cannot be written.
    """
    check_output(output, tagger.manifest)
    opened = inputs if isinstance(inputs, PhotoInputs) else open_inputs(inputs, path_column)
    total, job = _job(tagger, opened)
    result = TaggingResult(skipped=opened.skipped)
    photos = opened.photos()
    if output == STANDARD_OUTPUT:
        if resume or restart:
            raise UsageError("--resume and --restart: standard output has no journal to resume; name a file.")
        _tag(tagger, photos, total, result, write_line, quiet)
        result.record = _record(tagger, model, result)
        return result
    with open_journal(output, job, tagger.batch_size, resume, restart) as journal, _hint(journal, quiet):
        _skip_done(journal, photos, result)
        _tag(tagger, photos, total, result, journal.write, quiet)
        journal.sync()
        result.record = _record(tagger, model, result)
        with written_atomically(record_path(output)) as temporary:
            temporary.write_text(json.dumps(msgspec.to_builtins(result.record), indent=2) + "\n", encoding="utf-8")
        write_output(journal.records, output)
        journal.finish()
    if not result.tagged:
        raise _nothing_tagged(result)
    return result


def _tag(
    tagger: Tagger,
    photos: Iterator[Photo],
    total: int | None,
    result: TaggingResult,
    write: Callable[[Tagged], None],
    quiet: bool,
) -> None:
    start = time.perf_counter()
    with progress("tagging", None if total is None else total - result.resumed, "photos", quiet) as bar:
        for photo in tagger.tag(photos):
            write(photo)
            bar.advance(note=result.add(photo))
    result.seconds = time.perf_counter() - start


def _job(tagger: Tagger, inputs: PhotoInputs) -> tuple[int | None, dict[str, Any]]:
    """The number of photos, if it is known in advance; and the settings that a resumed job must share.

    The files are listed for it, once: their paths are kept in a temporary file until they are tagged.
    """
    job = {
        "model": tagger.manifest.network_sha256,
        "engine": str(tagger.execution),
        "labels": [label.name for label in tagger.manifest.labels],
        "preprocessing": tagger.manifest.preprocessing,
        "rule for tags": tagger.selection.to_json(),
        "batch size": tagger.batch_size,
        "number of threads": tagger.threads,
        "path column": inputs.path_column,
        "input": [ascii(name) for name in inputs.names],
        "working directory": ascii(os.getcwd()) if not all(map(os.path.isabs, inputs.names)) else None,
        "decoder": f"mlzsl {importlib.metadata.version('mlzsl')}, {decoder_versions()}",
    }
    if STANDARD_INPUT in inputs.names:
        return None, job
    count, countable, digest = 0, True, hashlib.sha256()
    listing = tempfile.SpooledTemporaryFile(MAX_LISTING)  # noqa: SIM115 it is read while photos are tagged
    for path in inputs.paths:
        count += 1
        countable = countable and not holds_photos(path)
        entry = os.fsencode(path) + b"\0"
        digest.update(entry)
        listing.write(entry)
    listing.seek(0)
    inputs.paths = read_list(cast(io.BufferedIOBase, listing))
    return count if countable else None, job | {"number of files": count, "list of files": digest.hexdigest()}


def _skip_done(journal: Journal, photos: Iterator[Photo], result: TaggingResult) -> None:
    """Count the photos in the journal, and skip them in the input, whose first ones they must be."""
    result.resumed = journal.done
    for done in read_records(journal.records):
        photo = next(photos, None)
        if photo is None or photo.path != done.path:
            found = "nothing" if photo is None else Tagged(photo.path).name
            raise UsageError(
                f"--resume: the photos differ from those of the job in {journal.folder} (expected {done.name}, found "
                f"{found}); start over with --restart."
            )
        result.add(done)


@contextlib.contextmanager
def _hint(journal: Journal, quiet: bool) -> Iterator[None]:
    """When a job is interrupted, name the journal and how to resume."""
    try:
        yield
    except (FailureError, KeyboardInterrupt) as error:
        if not journal.done:
            raise
        hint = f"The photos done so far are kept in {journal.folder}: continue with --resume."
        if isinstance(error, FailureError):
            raise FailureError(f"{error} {hint}") from error
        log(hint, quiet)
        raise


def _record(tagger: Tagger, model: Path, result: TaggingResult) -> RunRecord:
    manifest = tagger.manifest
    unseen = tuple(label.name for label in manifest.labels if not label.seen)
    return RunRecord(
        mlzsl=importlib.metadata.version("mlzsl"),
        engine=EngineRecord(
            os.fspath(model), manifest.network_sha256, manifest.model, manifest.backbone, len(manifest.labels), unseen
        ),
        execution=tagger.execution,
        certificate=tagger.certificate,
        preprocessing=manifest.preprocessing,
        selection=SelectionRecord(**tagger.selection.to_json()),
        batch_size=tagger.batch_size,
        photos=PhotoCounts(result.tagged, result.unreadable, result.skipped.total()),
        resumed=result.resumed,
        seconds=round(result.seconds, 3),
    )


def _nothing_tagged(result: TaggingResult) -> FailureError:
    if not result.errors:
        return FailureError("the input names no photo; nothing was tagged.")
    first = result.errors[0]
    return FailureError(
        f"none of the {plural(result.unreadable, 'image')} could be read (first: {first.name}: {first.error}); "
        "nothing was tagged."
    )
