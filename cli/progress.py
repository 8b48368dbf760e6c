"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere, nothing if quiet."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

SECONDS_BETWEEN_LINES = 5.0


class Progress(Protocol):
    """A counter of finished units (photos, batches, epochs)."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more units; `note` is a short text beside them, such as a loss."""


@contextmanager
def progress(title: str, total: int | None, unit: str, quiet: bool = False) -> Iterator[Progress]:
    """Show the progress of one job on standard error.

    Args:
        title: what is being done, as a participle ("extracting features").
        total: how many units there are, or None when nobody knows yet.
        unit: the plural name of what is counted ("photos").
        quiet: show nothing.
    """
    if quiet:
        yield _Silent()
    elif sys.stderr.isatty():
        with _Bar(title, total, unit) as bar:
            yield bar
    else:
        lines = _Lines(title, total, unit, sys.stderr)
        yield lines
        lines.finish()


def log(message: str, quiet: bool = False) -> None:
    """Print one line of news on standard error, which keeps standard output free for results."""
    if not quiet:
        print(message, file=sys.stderr, flush=True)


class _Silent:
    def advance(self, count: int = 1, note: str = "") -> None:
        pass


class _Bar:
    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self._unit, self._done, self._start = unit, 0, time.monotonic()
        self._bar = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(title, total=total, rate="", note="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, count: int = 1, note: str = "") -> None:
        self._done += count
        rate = _rate(self._done, time.monotonic() - self._start, self._unit)
        self._bar.update(self._task, advance=count, rate=rate, note=note)


class _Lines:
    def __init__(self, title: str, total: int | None, unit: str, stream: TextIO) -> None:
        self._title, self._total, self._unit, self._stream = title, total, unit, stream
        self._done, self._note, self._start, self._last = 0, "", time.monotonic(), time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        self._done, self._note = self._done + count, note or self._note
        if time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self._print()

    def finish(self) -> None:
        self._print()

    def _print(self) -> None:
        seconds = time.monotonic() - self._start
        of_total = f"/{self._total}" if self._total is not None else ""
        left = ""
        if self._total is not None and 0 < self._done < self._total:
            left = f", {seconds / self._done * (self._total - self._done):.0f} s left"
        note = f", {self._note}" if self._note else ""
        rate = _rate(self._done, seconds, self._unit)
        print(
            f"{self._title}: {self._done}{of_total} {self._unit}, {rate}{left}{note}",
            file=self._stream,
            flush=True,
        )


def _rate(done: int, seconds: float, unit: str) -> str:
    rate = done / seconds if seconds > 0 else 0.0
    return f"{rate:.1f} {unit}/s" if rate < 10 else f"{rate:.0f} {unit}/s"
