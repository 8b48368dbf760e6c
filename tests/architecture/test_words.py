"""Private words that were replaced by terms of the field stay out of names, messages, docs and file names."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = [link.name for link in (ROOT / "src" / "mlzsl").iterdir()]
FOLDERS = [*sorted(PACKAGES), "tests", "benchmarks", "tools", "docs", ".ci", ".github"]
SUFFIXES = {".py", ".md", ".toml", ".yml", ".yaml", ".sh", ".html", ".css", ".js", ""}

# The word, and the lines on which it is meant literally. A bracket keeps a search for the word from finding this list.
WORDS = {
    r"[r]ooms?": r'"room"',  # scenes that show a room
    r"[f]loors?": r"\b([Mm]ath|np)\.floor\(",
    r"[h]ouses?": None,
    r"systems": r"--systems|flag_systems|(file|operating) systems",  # the flag of 0.1
    r"(trained|pytorch|each|every|any|whole|fresh|our|paper's|best) system": None,
    r"truths": None,
    r"likeness|nearness|what is usual": None,
    r"strangers?|stand[-_ ]ins?|external_twin": None,
    r"gauges?|ladders?|rungs?": None,
    r"contenders?|foretells?|foretold": None,
    r"written[-_ ]heads?": None,
    r"stepper|toldelsewhere\w*": None,
    r"passed[-_ ]over": r'"passed_over"',  # the key in records of 0.1
    r"is told|are told|which is said|broken off|goes on where": None,
    r"ends with the (same|very same) bytes": None,
    r"fitness": None,
}


def texts() -> Iterator[tuple[str, str]]:
    """The path of every text file, and its content."""
    inside = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES)
    top = (
        path for path in ROOT.iterdir() if path.suffix in (".md", ".toml", ".yml", ".yaml") or path.name == "Makefile"
    )
    for path in sorted([*inside, *top]):
        if path.is_file() and path != Path(__file__):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


TEXTS = list(texts())


@pytest.mark.parametrize("word", WORDS)
def test_a_private_word_is_not_used(word: str) -> None:
    pattern, literal = re.compile(rf"(?<![a-z])(?:{word})(?![a-z])", re.IGNORECASE), WORDS[word]
    found = []
    for path, text in TEXTS:
        if pattern.search(f"{path}\n{text}"):
            for number, line in enumerate([path, *text.splitlines()]):
                if pattern.search(line) and not (literal and re.search(literal, line)):
                    found.append(f"{path}:{number}: {line.strip()}")
    assert not found, "write the term of the field:\n" + "\n".join(found)
