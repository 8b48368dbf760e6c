"""Standard output and error that cannot be written: a full disk, a closed pipe, an encoding without a character."""

import io
import os
import select
import sys
from typing import Any

from mlzsl.cli.errors import FailureError, reason_of

OUTPUT, ERROR = 1, 2  # descriptors


def guard_standard_streams() -> None:
    """Make writing to standard output raise nothing but `FailureError` and, from a closed pipe, `BrokenPipeError`.

    What standard error cannot take is dropped: there is nowhere to report it. Characters that the encoding lacks are
    escaped with backslashes. Streams that a program put in place of the process's own get the encoding's part only.
    """
    sys.stdout = sys.stdout or _closed(OUTPUT, os.O_RDONLY)  # so that writing fails, unless nothing is written
    sys.stderr = sys.stderr or _closed(ERROR, os.O_WRONLY)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            raw = getattr(stream.buffer, "raw", stream.buffer)  # without the buffer under `python -u`
            if type(raw) is io.FileIO and raw.fileno() in (OUTPUT, ERROR):
                guarded = io.BufferedWriter(_Guarded(raw.fileno(), "w", closefd=False))
                text = io.TextIOWrapper(
                    guarded,
                    stream.encoding,
                    stream.errors,
                    line_buffering=stream.line_buffering,
                    write_through=stream.write_through,
                )
                setattr(sys, name, text)


class _Guarded(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])  # it does not block, and is not ready
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())  # what is buffered cannot be written either
            if isinstance(error, BrokenPipeError):
                raise
            if self.fileno() == OUTPUT:
                raise FailureError(f"standard output: could not be written: {reason_of(error)}.") from error
            return memoryview(data).nbytes
        return written


def _closed(descriptor: int, flags: int) -> io.TextIOWrapper:
    """A stream in place of one that was closed when the process began, on its descriptor."""
    os.dup2(os.open(os.devnull, flags), descriptor)
    return io.TextIOWrapper(io.BufferedWriter(_Guarded(descriptor, "w", closefd=False)), "utf-8")
