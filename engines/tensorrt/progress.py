"""Progress and interruption of a build: the builder's C++ code does not see Python's signals."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from mlzsl.cli.progress import Progress, progress
from mlzsl.engines.tensorrt.library import Library


@contextlib.contextmanager
def build_progress(library: Library, config: Any, quiet: bool) -> Iterator[None]:
    """Show the progress of a build within the block; Ctrl-C stops the build at its next step.

    Args:
        library: of the builder.
        config: the builder configuration, which gets a progress monitor.
        quiet: show no progress.

    Raises:
        KeyboardInterrupt: at the end of the block, after Ctrl-C.
    """
    interrupted = threading.Event()
    with progress("building", None, "steps", quiet) as bar, _interrupts(interrupted):
        config.progress_monitor = _monitor(library, bar, interrupted)
        yield
    if interrupted.is_set():
        raise KeyboardInterrupt


def _monitor(library: Library, bar: Progress, interrupted: threading.Event) -> Any:
    kind = library.module.IProgressMonitor
    phases = [""]  # nested, the innermost last

    def initialize(self: Any) -> None:
        kind.__init__(self)

    def phase_start(self: Any, phase: str, parent: str | None, steps: int) -> None:
        phases.append(phase.lower())
        bar.advance(0, phases[-1])

    def step_complete(self: Any, phase: str, step: int) -> bool:
        bar.advance(1, phases[-1])
        return not interrupted.is_set()

    def phase_finish(self: Any, phase: str) -> None:
        phases.pop()

    calls = [initialize, phase_start, step_complete, phase_finish]
    named = {call.__name__: call for call in calls} | {"__init__": initialize}
    return type("Monitor", (kind,), named)()


@contextlib.contextmanager
def _interrupts(interrupted: threading.Event) -> Iterator[None]:
    """Let Ctrl-C set the event instead of raising within the library's call."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupted.set()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
