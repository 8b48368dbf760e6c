"""The journal of an unfinished job: photos done so far are kept, however the job ends, and a resumed job continues.

Until a job is done, there is a folder beside its output, `tags.jsonl.unfinished`:

    job.json       the settings that a resumed job must share; the folder counts once this file exists
    records.jsonl  a line for each photo, in the order of the input; "transient" marks those that are not done because
                   the machine failed to read them
    retried        what became of lines of records.jsonl whose photos a resumed job tried again

Lines are synced to disk every second. A kill may leave a torn line. It is cut when the job resumes, together with the
photos of an incomplete batch: all later batches, and so all scores, are then those of an uninterrupted run. Where
photos are tried again, batches differ anyway, and incomplete ones are kept. Photos from the first on whose file changed
after the interruption are cut in either case, and tagged again.
"""

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import MlzslError, UsageError
from mlzsl.cli.json_decoding import read_json
from mlzsl.cli.outputs import written_atomically
from mlzsl.runtime.io.tag_files import line_of, photo_of
from mlzsl.runtime.tagging.line_file import LineFile, cannot_write
from mlzsl.runtime.tagging.pipeline import BatchEnds
from mlzsl.runtime.tags import Tagged

JOB = "job.json"
RETRIED = "retried"
REPLACED, INSERTED, REMOVED = "=", "+", "-"  # what became of a line
MAX_JOB_BYTES = 1 << 28
MAX_SHOWN = 60  # characters of a setting in a sentence
NEW_SETTINGS = ("working directory", "decoder")  # which jobs of mlzsl 0.1 lack


class Journal:
    """The photos of a job; `open_journal` opens it.

    Attributes:
        done: number of photos whose records are in it, without those to try again.
        not_done: number of photos that this run tried and the machine failed to read.
        folder: where it is stored.
        records: the file with a line for each photo; it lacks what became of those tried again until `merge`.
    """

    def __init__(self, folder: Path, output: str, retry_errors: bool = False) -> None:
        self.done = self.not_done = 0
        self.folder = folder
        self.records = folder / "records.jsonl"
        self._output, self._retry_errors = output, retry_errors
        self._file = LineFile(self.records, output)
        self._retried: LineFile | None = None

    def tries_again(self, photo: Tagged) -> bool:
        """Whether a photo in the journal is to be tried again."""
        return photo.transient or (self._retry_errors and photo.error is not None)

    def write(self, photo: Tagged) -> None:
        """Add the next photo; raises as `LineFile.write`."""
        self._file.write(line_of(photo))
        self._count(photo)

    def write_retried(self, number: int, sign: str, photo: Tagged | None = None) -> None:
        """Add what became of line `number`: a photo that replaces it or is put before it, or no photo, it is removed.

        Lines come in order; raises as `LineFile.write`.
        """
        if self._retried is None:
            self._retried = LineFile(self.folder / RETRIED, self._output)
        self._retried.write(f"{number} {sign} ".encode() + (line_of(photo) if photo else b"\n"))
        if photo:
            self._count(photo)

    def sync(self) -> None:
        """Sync all photos to disk; raises as `LineFile.write`."""
        for file in filter(None, (self._retried, self._file)):
            file.sync()

    def scan(self, batch_size: int, interrupted: int) -> None:
        """Cut what a resumed job does not keep, and count the photos of the rest.

        Args:
            batch_size: photos per batch; the last one is cut if it is incomplete, unless photos are tried again.
            interrupted: when the job was, in ns; what follows is cut from the first photo on whose file changed later,
                those aside that are tried again.
        """
        ends = BatchEnds(batch_size)
        size = kept = done = 0
        again, self.done = False, 0
        for line, photo in whole_lines(self.records):
            again = again or self.tries_again(photo)
            if not self.tries_again(photo) and _changed_after(interrupted, photo.path):
                break
            ends.add(photo.error is None)
            size += len(line)
            self.done += not self.tries_again(photo)
            if ends.between_batches:
                kept, done = size, self.done
        if again:
            kept, done = size, self.done
        self.done = done
        os.truncate(self.records, kept)

    def changed_ns(self) -> int:
        """When it was last written, in ns."""
        files = filter(Path.exists, (self.records, self.folder / RETRIED))
        return max(_changed_ns(file.stat()) for file in files)

    def merge(self) -> None:
        """Put what became of lines in their places; after a kill in between, their photos are tried once more.

        Raises:
            FailureError: the disk is full, or the folder is gone.
        """
        retried = self.folder / RETRIED
        if not retried.exists():
            return
        self.sync()
        with written_atomically(self.records) as temporary:
            with temporary.open("wb") as merged:
                merged.writelines(_merged(self.records, retried))
            self._close()
            self._retried = None
            retried.unlink()
        self._file = LineFile(self.records, self._output)

    def photos_done(self) -> Path:
        """A file of the records of the photos that are done, a line each, once all were tried and `merge` is done."""
        if not self.not_done:
            return self.records
        done = self.folder / "done.jsonl"
        with done.open("wb") as file:
            file.writelines(line for line, photo in whole_lines(self.records) if not photo.transient)
        return done

    def finish(self) -> None:
        """Delete the journal, job.json first, once the output is written."""
        self._close()
        (self.folder / JOB).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Keep the complete lines; a journal without a record is deleted."""
        self._close()
        if not self.done:
            self.finish()

    def _close(self) -> None:
        for file in filter(None, (self._retried, self._file)):
            file.close()

    def _count(self, photo: Tagged) -> None:
        self.done += not photo.transient
        self.not_done += photo.transient


@contextlib.contextmanager
def open_journal(
    output: str,
    job: dict[str, Any],
    batch_size: int,
    resume: bool = False,
    restart: bool = False,
    retry_errors: bool = False,
    finished: Iterable[Tagged] = (),
) -> Iterator[Journal]:
    """Start a job's journal, or resume it; it is kept if the block ends without `finish`.

    Args:
        output: the file that the job writes.
        job: the settings that a resumed job must share, JSON values by name.
        batch_size: photos per batch; only complete batches are kept.
        resume: resume an unfinished job if there is one.
        restart: delete an unfinished job.
        retry_errors: try the photos again that could not be read.
        finished: the photos that a new job starts with, those of its output. After a usage error it is deleted.

    Raises:
        UsageError: there is an unfinished job and neither flag; or it has other settings; or it is still running.
        FailureError: the journal cannot be written.
    """
    folder = journal_folder(output)
    try:
        if check_unfinished(output, resume, restart) and resume:
            started = read_json(folder / JOB, dict[str, Any], "start over with --restart", MAX_JOB_BYTES)
            check_same_job(started, job, f"the job in {folder}")
            journal = Journal(folder, output, retry_errors)
            interrupted = journal.changed_ns()
            journal.merge()
            journal.scan(batch_size, interrupted)
        else:
            journal = _start(folder, output, job, retry_errors, finished)
    except OSError as error:
        raise cannot_write(output, error) from error
    try:
        yield journal
    except UsageError:  # the output has other photos than the input
        if finished:
            journal.finish()
        raise
    finally:
        journal.close()


def check_unfinished(output: str, resume: bool = False, restart: bool = False) -> bool:
    """Whether there is an unfinished job of an output.

    Raises:
        UsageError: there is one, and neither flag.
    """
    folder = journal_folder(output)
    unfinished = (folder / JOB).exists()
    if unfinished and not (resume or restart):
        raise UsageError(
            f"{output}: an unfinished job is kept in {folder}; continue it with --resume, or delete it and start over "
            "with --restart."
        )
    return unfinished


def journal_folder(output: str) -> Path:
    """The folder of an unfinished job, beside its output."""
    return Path(output + ".unfinished")


def _start(folder: Path, output: str, job: dict[str, Any], retry_errors: bool, finished: Iterable[Tagged]) -> Journal:
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder, output, retry_errors)
    try:
        (folder / JOB).unlink(missing_ok=True)
        (folder / RETRIED).unlink(missing_ok=True)
        os.truncate(journal.records, 0)
        for photo in finished:
            journal.write(photo)
            journal.done -= journal.tries_again(photo)
        journal.sync()
        with written_atomically(folder / JOB) as temporary:
            temporary.write_text(json.dumps(job, indent=2) + "\n", encoding="utf-8")
    except (OSError, MlzslError):
        journal.close()
        raise
    return journal


def check_same_job(started: dict[str, Any], job: dict[str, Any], which: str) -> None:
    """Compare the settings of a job with those that it started with.

    Raises:
        UsageError: they differ; `which` names the job.
    """
    job = json.loads(json.dumps(job))  # tuples are lists in JSON
    for name in {**started, **job}:
        if started.get(name) != job.get(name) and (name in started or name not in NEW_SETTINGS):
            raise UsageError(
                f"--resume: {which} has another {name} ({_shown(started.get(name))}, now "
                f"{_shown(job.get(name))}); use the same settings, or start over with --restart."
            )


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def whole_lines(path: Path) -> Iterator[tuple[bytes, Tagged]]:
    """The lines of a file of records with their photos, up to the first that is torn."""
    with contextlib.suppress(UsageError), path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            yield line, photo_of(line, str(path))


def _merged(records: Path, retried: Path) -> Iterator[bytes]:
    """The lines of records, with what became of them."""
    outcomes = _outcomes(retried)
    number, sign, outcome = next(outcomes, (-1, "", b""))
    for index, (line, _) in enumerate(whole_lines(records)):
        kept = line
        while number == index:
            if sign == INSERTED:
                yield outcome
            else:
                kept = outcome
            number, sign, outcome = next(outcomes, (-1, "", b""))
        yield kept


def _outcomes(retried: Path) -> Iterator[tuple[int, str, bytes]]:
    """What became of lines, up to the first torn line: a line's number, the sign, and the record, empty if removed."""
    with contextlib.suppress(UsageError, ValueError), retried.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            number, sign, record = line.split(b" ", 2)
            if record != b"\n":
                photo_of(record, str(retried))
            yield int(number), sign.decode(), record.removeprefix(b"\n")


def _changed_after(time_ns: int, path: str) -> bool:
    """Whether the file of a photo, or the shard or table that holds it, was written or replaced after a time."""
    while path:
        with contextlib.suppress(OSError, ValueError):
            status = os.stat(path)
            return stat.S_ISREG(status.st_mode) and _changed_ns(status) > time_ns
        path = path.rpartition("/")[0]
    return False


def _changed_ns(status: os.stat_result) -> int:
    return max(status.st_mtime_ns, status.st_ctime_ns)  # ctime: a file that is replaced may have an old mtime
