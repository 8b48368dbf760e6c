"""Some mutated files for each parser: a result or one sentence, and no wrong count; `python tests/fuzz` runs many."""

import mmap
import random
from pathlib import Path

import pytest
from fuzz.harness import FaultError, Parser, Tally, check_sentence, expect, fuzz, replay
from fuzz.parsers import PARSERS

COUNTS = {"images": 400, "labels": 100, "checkpoints": 100}
PAST_HEADER = 0.25  # of few inputs; a third of many


@pytest.mark.parametrize("name", PARSERS)
def test_mutated_files_give_a_right_result_or_one_sentence(name: str, tmp_path: Path) -> None:
    tally = fuzz(PARSERS[name], COUNTS.get(name, 300), seed=1, saved=tmp_path)
    assert not tally.faults, [path.with_name(path.name + ".txt").read_text() for path in tally.faults]
    assert tally.past_header >= PAST_HEADER * tally.inputs
    assert tally.results + tally.refused == tally.inputs


@pytest.mark.parametrize("name", PARSERS)
def test_inputs_depend_on_the_seed_and_their_number_only(name: str) -> None:
    seeds = PARSERS[name].seeds()
    first, again, other = (
        [PARSERS[name].mutate(random.Random(f"{seed} {i}"), seeds[0], seeds) for i in range(20)] for seed in "aab"
    )
    assert first == again != other


def parser_of(parse: object, **changes: object) -> Parser:
    """A parser of any bytes, whose valid input is `a`."""
    fields = {"suffix": "", "header": "", "past_header": lambda *_: True, "check": lambda *_: None} | changes
    return Parser("any", seeds=lambda: [b"a"], mutate=lambda *_: b"b", parse=parse, **fields)  # type: ignore[arg-type]


def allocate(path: Path) -> bytes:
    if path.read_bytes() == b"b":
        with mmap.mmap(-1, 2**26) as pages:  # new pages: the heap of a long test run has free ones
            for start in range(0, len(pages), mmap.PAGESIZE):
                pages[start] = 1
    return b"a"


def refuse(sentence: str) -> object:
    def parse(path: Path) -> bytes:
        if path.read_bytes() == b"b":
            raise ValueError(sentence)
        return b"a"

    return parse


def count_to_millions(path: Path) -> int:
    return sum(range(9_000_000)) if path.read_bytes() == b"b" else 1


def expect_a(content: bytes, result: object) -> None:
    expect(result, b"a", "letters")


@pytest.mark.parametrize(
    ("parser", "fault"),
    [
        (parser_of(lambda path: {b"a": 1}[path.read_bytes()]), "KeyError: b'b'"),
        (parser_of(refuse("x" * 1001), errors=(ValueError,)), "not a sentence (1001 characters)"),
        (parser_of(refuse("two\nlines"), errors=(ValueError,)), "not a sentence (9 characters)"),
        (parser_of(count_to_millions, max_seconds=0.05), "FaultError: took 0."),
        (parser_of(allocate, max_memory=2**24), "MiB"),
        (parser_of(Path.read_bytes, check=expect_a), "letters: b'b', expected b'a'"),
    ],
)
def test_faults_are_found_and_saved(parser: Parser, fault: str, tmp_path: Path) -> None:
    tally = fuzz(parser, 3, seed=0, saved=tmp_path)
    assert [path.read_bytes() for path in tally.faults] == [b"b"] * 3
    assert all(fault in path.with_name(path.name + ".txt").read_text() for path in tally.faults)


def test_a_saved_input_runs_again(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"b")
    assert replay(parser_of(refuse("b: is no a."), errors=(ValueError,)), tmp_path / "input") == "refused: b: is no a."
    with pytest.raises(FaultError, match="not a sentence"):
        check_sentence("two\nlines")
    assert Tally().inputs == 0
