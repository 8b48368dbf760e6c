"""Text files of labels: one a line, optionally `label<TAB>synset`, where the synset is `dog.n.01` or `n02084071`."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from mlzsl.cli.errors import UsageError

LARGEST_FILE = 8 * 2**20  # bytes; 22,000 labels take less than one million
LONGEST_LABEL = 200  # characters


@dataclass(frozen=True)
class LabelLine:
    """One label as it was written."""

    line: int  # from 1
    label: str
    synset: str | None  # what stands after the tab


@dataclass(frozen=True)
class LabelFile:
    """The labels of a file in its order, and a sentence for each line that is unfit."""

    path: str
    lines: tuple[LabelLine, ...]
    problems: tuple[tuple[int, str], ...]  # line, sentence


def read_label_file(path: str | Path) -> LabelFile:
    """Read a file of labels; unfit lines (blank, twice, malformed) become sentences in `problems`.

    Raises:
        UsageError: the file cannot be read as text at all: missing, a folder, too large, not UTF-8, empty.
    """
    text = _text(Path(path))
    lines: list[LabelLine] = []
    problems: list[tuple[int, str]] = []
    first_seen: dict[str, int] = {}
    for number, row in enumerate(text.splitlines(), start=1):
        where = f"{path}, line {number}"
        before, tab, after = row.partition("\t")
        label, synset = " ".join(before.split()), after.strip()
        key = label.casefold().replace("_", " ")
        if not row.strip():
            problems.append((number, f"{where}: is blank; remove the line."))
        elif problem := _unfit(label, bool(tab), synset):
            problems.append((number, f"{where}: {problem}"))
        elif key in first_seen:
            problems.append((number, f"{where}: {label!r} is already on line {first_seen[key]}; remove one of them."))
        else:
            first_seen[key] = number
            lines.append(LabelLine(number, label, synset or None))
    return LabelFile(str(path), tuple(lines), tuple(problems))


def _text(path: Path) -> str:
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a text file of labels, one a line.")
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error}); name a text file of labels.") from error
    if len(content) > LARGEST_FILE:
        raise UsageError(f"{path}: is larger than {LARGEST_FILE >> 20} MiB; a file of labels has one name a line.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise UsageError(f"{path}, line {line}: the byte 0x{byte:02x} is not UTF-8; save the file as UTF-8.") from error
    if not text.strip():
        raise UsageError(f"{path}: has no labels; write one a line.")
    return text


def _unfit(label: str, has_tab: bool, synset: str) -> str | None:
    """Return what is wrong with a line that is not blank, as the end of a sentence."""
    if not label:
        return "has no label before the tab; write label<TAB>synset."
    if "\t" in synset:
        return "has more than one tab; write label<TAB>synset."
    if has_tab and not synset:
        return f"has no synset after the tab of {label!r}; write one such as dog.n.01, or remove the tab."
    if len(label) > LONGEST_LABEL:
        return f"has a label of {len(label)} characters; at most {LONGEST_LABEL} are taken."
    if any(unicodedata.category(character) in {"Cc", "Cf", "Co", "Cs", "Cn"} for character in label):
        return f"has a character that cannot be printed in {label!r}; remove it."
    return None
