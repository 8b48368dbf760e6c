"""A file of whole lines, which a full disk, a kill or another process does not corrupt."""

import contextlib
import os
import sys
import time
from pathlib import Path

from mlzsl.cli.errors import FailureError, UsageError, reason_of

SECONDS_BETWEEN_SYNCS = 1.0
MAX_BUFFERED = 1 << 16  # bytes


class LineFile:
    """A file to which whole lines are appended; errors name the output of the job.

    Attributes:
        path: of the file, complete after `sync`.
    """

    def __init__(self, path: Path, output: str) -> None:
        self.path = path
        self._output = output
        self._lines = bytearray()
        self._synced = time.monotonic()
        self._file = path.open("ab", buffering=0)
        self._lock()

    def write(self, line: bytes) -> None:
        """Add a line.

        Raises:
            FailureError: the disk is full, or the folder is gone.
        """
        self._lines += line
        if time.monotonic() - self._synced >= SECONDS_BETWEEN_SYNCS:
            self.sync()
        elif len(self._lines) >= MAX_BUFFERED:
            self._flush()

    def sync(self) -> None:
        """Sync all lines to disk; raises as `write`."""
        self._flush()
        try:
            os.fsync(self._file.fileno())
            replaced = not os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno()))
        except OSError as error:
            raise cannot_write(self._output, error) from error
        if replaced:
            raise FailureError(f"{self._output}: could not be written: another process replaced {self.path}.")
        self._synced = time.monotonic()

    def close(self) -> None:
        """Keep the complete lines."""
        if not self._file.closed:
            with contextlib.suppress(FailureError):
                self._flush()
            self._file.close()

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
                _cut_torn_line(self.path, complete)
            raise cannot_write(self._output, error) from error


def cannot_write(output: str, error: OSError) -> FailureError:
    """The failure of a job whose output, or its journal, cannot be written."""
    return FailureError(f"{output}: could not be written: {reason_of(error)}.")


def _cut_torn_line(path: Path, complete: int) -> None:
    """Cut a file after its last line end, which is not before byte `complete`."""
    with path.open("rb+") as file:
        file.seek(complete)
        file.truncate(complete + file.read().rfind(b"\n") + 1)
