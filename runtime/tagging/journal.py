"""The journal of an unfinished job: photos done so far are kept, however the job ends, and a resumed job continues.

Until a job is done, there is a folder beside its output, `tags.jsonl.unfinished`:

    job.json       the settings that a resumed job must share; the folder counts once this file exists
    records.jsonl  a line for each photo that is done, in the order of the input

Lines are synced to disk every second. A kill may leave a torn line. It is cut when the job resumes, together with the
photos of an incomplete batch: all later batches, and so all scores, are then those of an uninterrupted run. Photos from
the first on whose file changed after the interruption are cut as well, and tagged again.
"""

import contextlib
import json
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import FailureError, UsageError, reason_of
from mlzsl.cli.json_decoding import read_json
from mlzsl.cli.outputs import written_atomically
from mlzsl.runtime.io.tag_files import line_of, photo_of
from mlzsl.runtime.tagging.pipeline import BatchEnds
from mlzsl.runtime.tags import Tagged

JOB = "job.json"
SECONDS_BETWEEN_SYNCS = 1.0
MAX_BUFFERED = 1 << 16  # bytes
MAX_JOB_BYTES = 1 << 28
MAX_SHOWN = 60  # characters of a setting in a sentence
NEW_SETTINGS = ("working directory", "decoder")  # which jobs of mlzsl 0.1 lack


class Journal:
    """Takes one photo after the other; `open_journal` opens it.

    Attributes:
        done: number of photos in it.
        folder: where it is stored.
        records: the file of their lines, complete after `sync`.
    """

    def __init__(self, folder: Path, output: str) -> None:
        self.done = 0
        self.folder = folder
        self.records = folder / "records.jsonl"
        self._output = output
        self._lines = bytearray()
        self._synced = time.monotonic()
        self._file = self.records.open("ab", buffering=0)
        self._lock()

    def write(self, photo: Tagged) -> None:
        """Add a photo.

        Raises:
            FailureError: the disk is full, or the folder is gone.
        """
        self._lines += line_of(photo)
        self.done += 1
        if time.monotonic() - self._synced >= SECONDS_BETWEEN_SYNCS:
            self.sync()
        elif len(self._lines) >= MAX_BUFFERED:
            self._flush()

    def sync(self) -> None:
        """Sync all lines to disk; raises as `write`."""
        self._flush()
        try:
            os.fsync(self._file.fileno())
            replaced = not os.path.samestat(os.stat(self.records), os.fstat(self._file.fileno()))
        except OSError as error:
            raise _cannot_write(self._output, error) from error
        if replaced:
            raise FailureError(f"{self._output}: could not be written: another process replaced {self.records}.")
        self._synced = time.monotonic()

    def finish(self) -> None:
        """Delete the journal, job.json first, once the output is written."""
        self._file.close()
        (self.folder / JOB).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Keep the complete lines; an empty journal is deleted."""
        if not self._file.closed:
            with contextlib.suppress(FailureError):
                self._flush()
            self._file.close()
            if not self.done:
                self.finish()

    def _lock(self) -> None:
        """Refuse to write where another process does; the lock ends with its process."""
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self._file.close()
                raise UsageError(
                    f"{self._output}: another process is writing it; wait for that one, or name another file."
                ) from error
            except OSError:  # a file system without locks
                pass

    def _flush(self) -> None:
        rest = memoryview(bytes(self._lines))
        self._lines.clear()
        try:
            complete = os.fstat(self._file.fileno()).st_size
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            with contextlib.suppress(OSError):
                _cut_torn_line(self.records, complete)
            raise _cannot_write(self._output, error) from error


@contextlib.contextmanager
def open_journal(
    output: str, job: dict[str, Any], batch_size: int, resume: bool = False, restart: bool = False
) -> Iterator[Journal]:
    """Start a job's journal, or resume it; it is kept if the block ends without `finish`.

    Args:
        output: the file that the job writes.
        job: the settings that a resumed job must share, JSON values by name.
        batch_size: photos per batch; only complete batches are kept.
        resume: resume an unfinished job if there is one.
        restart: delete an unfinished job.

    Raises:
        UsageError: there is an unfinished job and neither flag; or it has other settings; or it is still running.
        FailureError: the journal cannot be written.
    """
    folder = journal_folder(output)
    try:
        if check_unfinished(output, resume, restart) and resume:
            _check_same_job(folder, job)
            journal = Journal(folder, output)
            _keep_complete_batches(journal, batch_size)
        else:
            journal = _start(folder, output, job)
    except OSError as error:
        raise _cannot_write(output, error) from error
    try:
        yield journal
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


def _cannot_write(output: str, error: OSError) -> FailureError:
    return FailureError(f"{output}: could not be written: {reason_of(error)}.")


def _start(folder: Path, output: str, job: dict[str, Any]) -> Journal:
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder, output)
    try:
        (folder / JOB).unlink(missing_ok=True)
        os.truncate(journal.records, 0)
        with written_atomically(folder / JOB) as temporary:
            temporary.write_text(json.dumps(job, indent=2) + "\n", encoding="utf-8")
    except (OSError, FailureError):
        journal.close()
        raise
    return journal


def _check_same_job(folder: Path, job: dict[str, Any]) -> None:
    started = read_json(folder / JOB, dict[str, Any], "start over with --restart", MAX_JOB_BYTES)
    job = json.loads(json.dumps(job))  # tuples are lists in JSON
    for name in {**started, **job}:
        if started.get(name) != job.get(name) and (name in started or name not in NEW_SETTINGS):
            raise UsageError(
                f"--resume: the job in {folder} has another {name} ({_shown(started.get(name))}, now "
                f"{_shown(job.get(name))}); use the same settings, or start over with --restart."
            )


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _keep_complete_batches(journal: Journal, batch_size: int) -> None:
    """Cut the file after the last complete batch of unchanged photos, and count its photos."""
    ends = BatchEnds(batch_size)
    size = kept = 0
    interrupted = _changed_ns(journal.records.stat())
    with contextlib.suppress(UsageError), journal.records.open("rb") as file:
        for count, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            photo = photo_of(line, str(journal.records))
            if _changed_after(interrupted, photo.path):
                break
            ends.add(photo.error is None)
            size += len(line)
            if ends.between_batches:
                kept, journal.done = size, count
    os.truncate(journal.records, kept)


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


def _cut_torn_line(path: Path, complete: int) -> None:
    """Cut a file after its last line end, which is not before byte `complete`."""
    with path.open("rb+") as file:
        file.seek(complete)
        file.truncate(complete + file.read().rfind(b"\n") + 1)
