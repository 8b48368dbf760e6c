"""Progress of long jobs: a bar with rate and time left on a terminal, plain lines elsewhere, nothing if quiet."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from mlzsl.cli.text import one_line

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

SECONDS_BETWEEN_LINES = 5.0


class Progress(Protocol):
    """A counter of finished units (photos, batches, epochs)."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Add `count` finished units; `note` is a short text to show with them, such as a loss."""


@contextmanager
def progress(title: str, total: int | None, unit: str, quiet: bool = False) -> Iterator[Progress]:
    """Show the progress of one job on standard error.

    Args:
        title: the job, as a participle ("extracting features").
        total: the number of units, or None if it is not known yet.
        unit: the plural name of what is counted ("photos").
        quiet: show nothing.
    """
    if quiet or not sys.stderr.isatty():
        lines = _Lines(title, total, unit, quiet)
        yield lines
        lines.print()
    else:
        from rich.console import Console  # the label sets import this module, and rich is slow to import
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (SpinnerColumn(), "{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[rate]}")
        with RichProgress(*columns, TimeRemainingColumn(), "{task.fields[note]}", console=Console(stderr=True)) as bar:
            yield _Bar(bar, title, total, unit)


def log(message: str, quiet: bool = False) -> None:
    """Print one line on standard error, as standard output is for results."""
    if not quiet:
        print(one_line(message), file=sys.stderr, flush=True)


class _Bar:
    def __init__(self, bar: "RichProgress", title: str, total: int | None, unit: str) -> None:
        self._bar, self._unit, self._done, self._start = bar, unit, 0, time.monotonic()
        self._task = bar.add_task(title, total=total, rate="", note="")

    def advance(self, count: int = 1, note: str = "") -> None:
        self._done += count
        rate = _rate(self._done, time.monotonic() - self._start, self._unit)
        self._bar.update(self._task, advance=count, rate=rate, note=note)


class _Lines:
    def __init__(self, title: str, total: int | None, unit: str, quiet: bool) -> None:
        self._title, self._total, self._unit, self._quiet = title, total, unit, quiet
        self._done, self._note, self._start, self._last = 0, "", time.monotonic(), time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        self._done, self._note = self._done + count, note or self._note
        if time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self.print()

    def print(self) -> None:
        seconds = time.monotonic() - self._start
        total = f"/{self._total}" if self._total is not None else ""
        left = ""
        if self._total is not None and 0 < self._done < self._total:
            left = f", {seconds / self._done * (self._total - self._done):.0f} s left"
        note = f", {self._note}" if self._note else ""
        rate = _rate(self._done, seconds, self._unit)
        log(f"{self._title}: {self._done}{total} {self._unit}, {rate}{left}{note}", self._quiet)


def _rate(done: int, seconds: float, unit: str) -> str:
    rate = done / seconds if seconds > 0 else 0.0
    return f"{rate:.1f} {unit}/s" if rate < 10 else f"{rate:.0f} {unit}/s"
