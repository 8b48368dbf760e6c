"""The journal of an unfinished job: what is done is kept, whatever ends the job, and a resumed job goes on from there.

Beside the output lies a folder, `tags.jsonl.unfinished`, while the job is not done:

    job.json       what must be the same when the job goes on; the folder counts from when this file is there
    records.jsonl  a line for each photo that is done, in the order of the input

Lines are on the disk a second after they are written. A kill may leave a torn line, which is cut when the job goes on,
together with the photos of a batch that was not whole: the batches after it are then those of an unbroken run, and so
are all scores, to the last digit.
"""

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.outputs import written_atomically
from mlzsl.runtime.io.records import line_of, photo_of
from mlzsl.runtime.tagging.pipeline import BatchEnds
from mlzsl.runtime.tags import Tagged

SECONDS_BETWEEN_SYNCS = 1.0
MOST_BUFFERED = 1 << 16  # bytes
LONGEST_VALUE = 60  # letters of a setting in a sentence


class Journal:
    """Takes one photo after the other; `open_journal` opens it.

    Attributes:
        done: how many photos it holds.
        records: the file of their lines, whole after `sync`.
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
        elif len(self._lines) >= MOST_BUFFERED:
            self._write_out()

    def sync(self) -> None:
        """Bring all lines to the disk; raises as `write`."""
        self._write_out()
        try:
            os.fsync(self._file.fileno())
            there, ours = os.stat(self.records), os.fstat(self._file.fileno())
        except OSError as error:
            raise self._cannot_write(error) from error
        if not os.path.samestat(there, ours):
            raise FailureError(f"{self._output}: could not be written: somebody replaced {self.records} meanwhile.")
        self._synced = time.monotonic()

    def finish(self) -> None:
        """The output is written: the journal goes, its job first."""
        self._file.close()
        _job_file(self.folder).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Keep what is whole; a journal that holds nothing goes."""
        if not self._file.closed:
            with contextlib.suppress(FailureError):
                self._write_out()
            self._file.close()
            if not self.done:
                self.finish()

    def _lock(self) -> None:
        """Refuse to write where another process does; the lock goes with its process, however that ends."""
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

    def _write_out(self) -> None:
        rest = memoryview(bytes(self._lines))
        self._lines.clear()
        try:
            whole = os.fstat(self._file.fileno()).st_size
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            with contextlib.suppress(OSError):
                _cut_torn_line(self.records, whole)
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> FailureError:
        return FailureError(f"{self._output}: could not be written: {error.strerror or error}.")


@contextlib.contextmanager
def open_journal(
    output: str, job: dict[str, Any], batch_size: int, resume: bool = False, restart: bool = False
) -> Iterator[Journal]:
    """Begin a job's journal, or go on with it; it is kept when the block ends without `finish`.

    Args:
        output: the file that the job makes.
        job: what must be the same when the job goes on: JSON values by what they are called.
        batch_size: photos a batch, of which only whole ones are taken over.
        resume: go on with an unfinished job where there is one.
        restart: throw an unfinished job away.

    Raises:
        UsageError: there is an unfinished job and neither flag; or it is another job; or it is still running.
        FailureError: the file system refuses.
    """
    folder = journal_folder(output)
    begun = _job_file(folder).exists()
    if begun and not (resume or restart):
        raise UsageError(
            f"{output}: an unfinished job is kept in {folder}; go on with it with --resume, or throw it away and "
            "begin anew with --restart."
        )
    try:
        if begun and resume:
            _check_same_job(_read_job(folder), job, folder)
            journal = Journal(folder, output)
            _take_over(journal, batch_size)
        else:
            journal = _begin(folder, output, job)
    except OSError as error:
        raise FailureError(f"{output}: could not be written: {error.strerror or error}.") from error
    try:
        yield journal
    finally:
        journal.close()


def journal_folder(output: str) -> Path:
    """Where an unfinished job is kept: beside the output that it makes."""
    return Path(output + ".unfinished")


def _job_file(folder: Path) -> Path:
    return folder / "job.json"


def _begin(folder: Path, output: str, job: dict[str, Any]) -> Journal:
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder, output)
    try:
        _job_file(folder).unlink(missing_ok=True)
        os.truncate(journal.records, 0)
        with written_atomically(_job_file(folder)) as temporary:
            temporary.write_text(json.dumps(job, indent=2) + "\n", encoding="utf-8")
    except (OSError, FailureError):
        journal.close()
        raise
    return journal


def _read_job(folder: Path) -> dict[str, Any]:
    try:
        job: dict[str, Any] = json.loads(_job_file(folder).read_text(encoding="utf-8"))
        return dict(job)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{_job_file(folder)}: is damaged; begin anew with --restart.") from error


def _check_same_job(begun: dict[str, Any], job: dict[str, Any], folder: Path) -> None:
    job = json.loads(json.dumps(job))  # tuples are lists in JSON
    for name in {**begun, **job}:
        if begun.get(name) != job.get(name):
            raise UsageError(
                f"--resume: the job in {folder} began with another {name} ({_shown(begun.get(name))}, now "
                f"{_shown(job.get(name))}); ask for the same again, or begin anew with --restart."
            )


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _take_over(journal: Journal, batch_size: int) -> None:
    """Keep the lines up to the last whole batch, and count them."""
    ends = BatchEnds(batch_size)
    place = kept = lines = 0
    with journal.records.open("rb") as file:
        for line in file:
            try:
                photo = photo_of(line)
            except ValueError:
                break
            lines, place = lines + 1, place + len(line)
            ends.add(photo.error is None)
            if ends.between_batches:
                kept, journal.done = place, lines
    os.truncate(journal.records, kept)


def _cut_torn_line(path: Path, whole: int) -> None:
    """Cut a file after its last line end, which lies no further back than `whole` bytes from its start."""
    with path.open("rb+") as file:
        file.seek(whole)
        file.truncate(whole + file.read().rfind(b"\n") + 1)
