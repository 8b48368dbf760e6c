"""Text files of labels: one a line, optionally `label<TAB>synset`, where the synset is `dog.n.01` or `n02084071`."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from mlzsl.cli.errors import UsageError, reason_of

MAX_BYTES = 8 * 2**20  # of a file; 22,000 labels take less than one million
MAX_LABEL_LENGTH = 200  # characters


@dataclass(frozen=True)
class LabelLine:
    """One label as it is written in the file."""

    line: int  # from 1
    label: str
    synset: str | None  # the text after the tab


@dataclass(frozen=True)
class LabelFile:
    """The labels of a file in its order, and a sentence for each invalid line."""

    path: str
    lines: tuple[LabelLine, ...]
    problems: tuple[tuple[int, str], ...]  # line, sentence


def read_label_file(path: str | Path) -> LabelFile:
    """Read a file of labels; invalid lines (blank, repeated, malformed) become sentences in `problems`.

    Raises:
        UsageError: the file is not readable text: missing, a folder, too large, not UTF-8, or empty.
    """
    text = _read_text(Path(path))
    lines: list[LabelLine] = []
    problems: list[tuple[int, str]] = []
    first_lines: dict[str, int] = {}
    for number, row in enumerate(text.splitlines(), start=1):
        before, tab, after = row.partition("\t")
        label, synset = " ".join(before.split()), after.strip()
        key = label.casefold().replace("_", " ")
        problem = _problem(row, label, bool(tab), synset)
        if problem is None and key in first_lines:
            problem = f"{label!r} is already on line {first_lines[key]}; remove one of them."
        if problem is None:
            first_lines[key] = number
            lines.append(LabelLine(number, label, synset or None))
        else:
            problems.append((number, f"{path}, line {number}: {problem}"))
    return LabelFile(str(path), tuple(lines), tuple(problems))


def _read_text(path: Path) -> str:
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a text file of labels, one a line.")
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({reason_of(error)}); name a text file of labels.") from error
    if len(content) > MAX_BYTES:
        raise UsageError(f"{path}: is larger than {MAX_BYTES >> 20} MiB; a file of labels has one name a line.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise UsageError(f"{path}, line {line}: the byte 0x{byte:02x} is not UTF-8; save the file as UTF-8.") from error
    if not text.strip():
        raise UsageError(f"{path}: has no labels; write one a line.")
    return text


def _problem(row: str, label: str, has_tab: bool, synset: str) -> str | None:
    """What is wrong with a line, as the end of a sentence; None if nothing is."""
    if not row.strip():
        return "is blank; remove the line."
    if not label:
        return "has no label before the tab; write label<TAB>synset."
    if "\t" in synset:
        return "has more than one tab; write label<TAB>synset."
    if has_tab and not synset:
        return f"has no synset after the tab of {label!r}; write one such as dog.n.01, or remove the tab."
    if len(label) > MAX_LABEL_LENGTH:
        return f"has a label of {len(label)} characters; the limit is {MAX_LABEL_LENGTH}."
    if any(unicodedata.category(character) in {"Cc", "Cf", "Co", "Cs", "Cn"} for character in label):
        return f"has a character that cannot be printed in {label!r}; remove it."
    return None
