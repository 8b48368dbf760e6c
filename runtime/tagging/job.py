"""A tagging job: writes photos' tags to a file, and the record of the run beside it; resumes if interrupted."""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.outputs import written_atomically
from mlzsl.cli.progress import log, progress
from mlzsl.imaging.finding import STANDARD_INPUT, read_list
from mlzsl.imaging.versions import decoder_versions
from mlzsl.runtime.io.inputs import PATH_COLUMN, PhotoInputs, holds_photos, open_inputs
from mlzsl.runtime.io.run_record import (
    EngineRecord,
    PhotoCounts,
    RunRecord,
    SelectionRecord,
    read_run_record,
    record_path,
)
from mlzsl.runtime.io.tag_files import STANDARD_OUTPUT, check_output, read_tags, write_line, write_output
from mlzsl.runtime.tagging.journal import Journal, check_same_job, check_unfinished, open_journal
from mlzsl.runtime.tagging.result import ErrorLimit, TaggingResult
from mlzsl.runtime.tagging.resuming import RemainingPhotos
from mlzsl.runtime.tagging.tagger import Tagger
from mlzsl.runtime.tags import Photo, Tagged

MAX_LISTING = 64 * 2**20  # bytes of paths that are kept in memory


def tag_to_file(
    tagger: Tagger,
    inputs: Sequence[str | os.PathLike[str]] | PhotoInputs,
    output: str,
    model: Path,
    quiet: bool = False,
    path_column: str = PATH_COLUMN,
    resume: bool = False,
    restart: bool = False,
    retry_errors: bool = False,
    max_errors: str | None = None,
) -> TaggingResult:
    """Tag photos and write their tags, and the record of the run beside them.

    Until all photos are done, finished ones are kept in a journal beside the output (`runtime.tagging.journal`): an
    interrupted job resumes, and its output is byte-identical to that of an uninterrupted one. Photos that the machine
    fails to read get no record; the journal is kept, and a resumed job tries them again.

    Args:
        tagger: the open model.
        inputs: files, folders, patterns, shards, tables, or `-`, or what `runtime.io.inputs.open_inputs` made of them.
        output: a `.jsonl`, `.csv` or `.parquet` file, or `-` for standard output, which has no journal and no record.
        model: the path of the model file, for the record.
        quiet: show no progress.
        path_column: the column of tables with the paths, for inputs that are not open.
        resume: resume an unfinished job if there is one.
        restart: delete an unfinished job.
        retry_errors: when a job resumes, or if its output is finished, try unreadable photos again.
        max_errors: the job fails if more photos are unreadable: a number, or a percentage such as "5%"; None for any.

    Returns:
        What was done. If photos are not done, it says so, and the output lacks them.

    Raises:
        UsageError: an input or the output is invalid, or an unfinished job has other settings.
        FailureError: not one photo could be read, more than `max_errors` could not, the machine failed to read many in
            a row, or the output cannot be written.
    """
    check_output(output, tagger.manifest)
    limit = None if max_errors is None else ErrorLimit(max_errors)
    opened = inputs if isinstance(inputs, PhotoInputs) else open_inputs(inputs, path_column)
    total, job = _job(tagger, opened)
    result = TaggingResult(skipped=opened.skipped)
    if output == STANDARD_OUTPUT:
        if resume or restart:
            raise UsageError("--resume and --restart: standard output has no journal to resume; name a file.")
        with _out_of_memory():
            _tag(tagger, opened.photos(), total, result, _write_line, limit, quiet)
        result.record = _record(tagger, model, result, opened.path_column)
        return result
    unfinished = check_unfinished(output, resume, restart)
    found = _finished(output, job) if resume and retry_errors and not unfinished else ()
    with (
        open_journal(output, job, tagger.batch_size, resume, restart, retry_errors, found) as journal,
        _hint(journal, quiet),
        _out_of_memory(),
    ):
        result.resumed = journal.done
        remaining = RemainingPhotos(journal, opened.photos(), result.add)
        _tag(tagger, remaining.photos(), total, result, remaining.write, limit, quiet)
        journal.sync()
        journal.merge()
        result.record = _record(tagger, model, result, opened.path_column)
        if journal.done:
            with written_atomically(record_path(output)) as temporary:
                temporary.write_text(json.dumps(msgspec.to_builtins(result.record), indent=2) + "\n", encoding="utf-8")
            write_output(journal.photos_done(), output)
        if not journal.not_done:
            journal.finish()
    if not result.tagged:
        raise result.nothing_tagged_error(output)
    return result


def _tag(
    tagger: Tagger,
    photos: Iterator[Photo],
    total: int | None,
    result: TaggingResult,
    write: Callable[[Tagged], None],
    limit: ErrorLimit | None,
    quiet: bool,
) -> None:
    start = time.perf_counter()
    with progress("tagging", None if total is None else total - result.resumed, "photos", quiet) as bar:
        for photo in tagger.tag(photos):
            write(photo)
            bar.advance(note=result.add(photo))
            result.check_errors(limit)
    result.check_errors(limit, at_end=True)
    result.seconds = time.perf_counter() - start


def _write_line(photo: Tagged) -> None:
    if not photo.transient:
        write_line(photo)


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


def _finished(output: str, job: dict[str, Any]) -> Iterator[Tagged]:
    """The photos in an output that is finished, to begin a job with; none without an output and its record.

    Raises:
        UsageError: it was made with other settings.
    """
    if not Path(output).is_file():
        return
    if (record := read_run_record(Path(output))) is None:
        raise UsageError(f"--retry-errors: {output} has no record of its run beside it; tag its photos with --restart.")
    made = {
        "model": record.engine.network_sha256,
        "engine": str(record.execution),
        "preprocessing": record.preprocessing,
        "rule for tags": msgspec.to_builtins(record.selection),
    }
    check_same_job(made, {name: job[name] for name in made}, f"the job of {output}")
    for photo in read_tags(Path(output), record.engine.unseen):
        tags = (replace(tag, score=round(tag.score, 6)) for tag in photo.tags)  # Parquet has them as float32
        yield replace(photo, tags=tuple(tags))


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


@contextlib.contextmanager
def _out_of_memory() -> Iterator[None]:
    """Report that memory is short outside of decoding as a failure of the job."""
    try:
        yield
    except MemoryError as error:
        raise FailureError("not enough memory; free some, or lower --batch-size and --threads.") from error


def _record(tagger: Tagger, model: Path, result: TaggingResult, path_column: str) -> RunRecord:
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
        photos=PhotoCounts(result.tagged, result.unreadable, result.skipped.total(), result.not_done, result.with_note),
        resumed=result.resumed,
        seconds=round(result.seconds, 3),
        path_column=path_column,
    )
