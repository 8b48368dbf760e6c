"""What fuzzing a parser takes: the parser with its seeds and mutations, one run of it, and what counts as a fault."""

import contextlib
import faulthandler
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import IO, Any

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.text import MAX_MESSAGE

MAX_SENTENCE = MAX_MESSAGE
MAX_SECONDS = 2.0  # of processor time
HANG_SECONDS = 120.0
MAX_MEMORY = 256 * 2**20  # bytes that one input may take
MAX_FAULTS = 5  # of a parser; it is then left


class FaultError(AssertionError):
    """A parser did something else than to give a right result or one sentence."""


@dataclass(frozen=True)
class Parser:
    """A parser of untrusted input.

    Attributes:
        name: names it on the command line.
        suffix: of the input's file name; parsers may choose by it.
        header: what an input has that gets past the header.
        seeds: makes valid inputs, each of which must give a result.
        mutate: (random, a seed, all seeds) -> an input.
        parse: reads an input, stored at a path, with the product; its result.
        past_header: (input, result, error) -> whether the input got past the header.
        check: (input, result) -> None; raises FaultError where the result cannot be right.
        errors: what `parse` may raise, with one sentence.
        max_seconds, max_memory: what one input may take.
        silent: whether nothing may be written to standard error.
    """

    name: str
    suffix: str
    header: str
    seeds: Callable[[], Sequence[bytes]]
    mutate: Callable[[Random, bytes, Sequence[bytes]], bytes]
    parse: Callable[[Path], Any]
    past_header: Callable[[bytes, Any, Exception | None], bool]
    check: Callable[[bytes, Any], None]
    errors: tuple[type[Exception], ...] = (UsageError, FailureError)
    max_seconds: float = MAX_SECONDS
    max_memory: int = MAX_MEMORY
    silent: bool = True


@dataclass
class Tally:
    """What happened to the inputs of one parser.

    Attributes:
        inputs: number of them.
        past_header: how many got past the header.
        results, refused: how many gave a result, and how many an error with one sentence.
        seconds: of processor time, over all.
        slowest: of one input.
        memory: in bytes, the most that an input took.
        faults: the saved inputs that failed.
    """

    inputs: int = 0
    past_header: int = 0
    results: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    memory: int = 0
    faults: list[Path] = field(default_factory=list)


def fuzz(parser: Parser, count: int, seed: int, saved: Path, start: int = 0) -> Tally:
    """Run the seeds of a parser, then `count` mutated inputs; those that fail are written to the folder `saved`.

    Input i depends on the seed, i and the installed encoders only.
    """
    tally = Tally()
    seeds = parser.seeds()
    with _sandbox(parser) as run:
        for number, valid in enumerate(seeds):
            refused, _ = run(valid, Tally())
            if refused is not None:
                raise FaultError(f"{parser.name}: seed {number} is refused: {refused}")
        for number in range(start, start + count):
            random = Random(f"{parser.name} {seed} {number}")
            content = parser.mutate(random, random.choice(seeds), seeds)
            try:
                run(content, tally)
            except KeyboardInterrupt:
                raise
            except BaseException:  # a panic of a library in Rust is no Exception
                saved.mkdir(parents=True, exist_ok=True)
                path = saved / f"{parser.name}-{seed}-{number}{parser.suffix}"
                path.write_bytes(content)
                path.with_name(path.name + ".txt").write_text(traceback.format_exc())
                tally.faults.append(path)
                if len(tally.faults) == MAX_FAULTS:
                    break
    return tally


def replay(parser: Parser, path: Path) -> str:
    """Run one saved input; what the parser made of it. Raises what the parser raises, and FaultError."""
    with _sandbox(parser) as run:
        error, result = run(path.read_bytes(), Tally())
        return f"refused: {error}" if error else f"result: {result!r}"[:MAX_SENTENCE]


def check_sentence(text: str, limit: int = MAX_SENTENCE) -> None:
    """Raises FaultError for a text that is not one printable line of bounded length."""
    if not text or not text.isprintable() or len(text) > limit:
        raise FaultError(f"not a sentence ({len(text)} characters): {text[: 2 * limit]!r}")


def expect(found: object, expected: object, what: str) -> None:
    """Raises FaultError where a count or a value differs from that of a naive reading."""
    if found != expected:
        raise FaultError(f"{what}: {str(found)[:MAX_SENTENCE]}, expected {str(expected)[:MAX_SENTENCE]}")


@contextlib.contextmanager
def _sandbox(parser: Parser) -> Iterator[Callable[[bytes, Tally], tuple[Exception | None, Any]]]:
    """Yield what runs one input: in a folder of its own, warnings and the standard error of libraries observed."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder, warnings.catch_warnings(record=True) as warned:
        warnings.filterwarnings("always", module="mlzsl")
        warnings.filterwarnings("ignore", category=ResourceWarning)  # garbage is collected at any later input
        path = Path(folder) / f"input{parser.suffix}"
        with _standard_error_in_file(Path(folder) / "stderr") as (errors, terminal):

            def run(content: bytes, tally: Tally) -> tuple[Exception | None, Any]:
                path.write_bytes(content)
                faulthandler.dump_traceback_later(HANG_SECONDS, exit=True, file=terminal)
                before, started = _peak_memory(reset=True), time.process_time()
                error, result = None, None
                try:
                    result = parser.parse(path)
                except parser.errors as refused:
                    error = refused
                finally:
                    faulthandler.cancel_dump_traceback_later()
                seconds, memory = time.process_time() - started, _peak_memory() - before
                tally.inputs += 1
                tally.results += error is None
                tally.refused += error is not None
                tally.past_header += parser.past_header(content, result, error)
                tally.seconds += seconds
                tally.slowest, tally.memory = max(tally.slowest, seconds), max(tally.memory, memory)
                if error is not None:
                    check_sentence(str(error))
                else:
                    parser.check(content, result)
                if seconds > parser.max_seconds:
                    raise FaultError(f"took {seconds:.1f} s")
                if memory > parser.max_memory:
                    raise FaultError(f"took {memory >> 20} MiB")
                if warned:
                    raise FaultError(f"warned: {warned.pop().message}")
                if (text := os.pread(errors.fileno(), 1000, 0)) and parser.silent:
                    os.ftruncate(errors.fileno(), 0)
                    raise FaultError(f"wrote to standard error: {text!r}")
                return error, result

            yield run


@contextlib.contextmanager
def _standard_error_in_file(path: Path) -> Iterator[tuple[IO[bytes], IO[str]]]:
    """Point descriptor 2, which libraries in C write to, at a file; yield it, and the former standard error."""
    former = os.dup(2)
    with open(path, "ab+") as errors, open(former, "w", closefd=True) as terminal:
        sys.stderr.flush()
        os.dup2(errors.fileno(), 2)
        try:
            yield errors, terminal
        finally:
            os.dup2(former, 2)


def _peak_memory(reset: bool = False) -> int:
    """The largest resident memory of this process in bytes, since it was last reset where that is possible."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
