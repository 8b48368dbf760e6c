"""Label sets: labels with their synsets, by name (coco80, nuswide81, voc20, imagenet1k) or from a text file.

A text file has one label a line, optionally `label<TAB>synset`, where the synset is `dog.n.01` or `n02084071`.
"""

import difflib
import functools
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlzsl.cli.errors import UsageError
from mlzsl.cli.inputs import read_text
from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.cli.progress import log, progress
from mlzsl.cli.text import MAX_NAMED, first_of, label_key, one_line, plural
from mlzsl.graph.labels.linking import LinkedLabel, link_label
from mlzsl.graph.taxonomy import DATA, NoSynsetError, Taxonomy

NAMED_SETS = ("coco80", "nuswide81", "voc20", "imagenet1k")
MAX_BYTES = 8 * 2**20  # of a text file; 22,000 labels take less than one million
MAX_LABEL_LENGTH = 200  # characters
MANY_LABELS = 1000  # from here on, progress is shown
HAND_LINKED_SETS = ("coco80", "nuswide81", "voc20")  # the first that has a name decides its synset

# The unseen classes of the paper, section 4.1, in each set's own order.
UNSEEN: dict[str, tuple[str, ...]] = {
    "coco80": (
        *("bicycle", "boat", "stop sign", "bird", "backpack", "frisbee", "snowboard", "surfboard"),
        *("cup", "fork", "spoon", "broccoli", "chair", "keyboard", "microwave", "vase"),
    ),
    "nuswide81": (
        *("airport", "cars", "food", "fox", "frost", "garden", "mountain", "police"),
        *("protest", "rainbow", "sun", "tattoo", "train", "water", "waterfall", "window"),
    ),
}


@dataclass(frozen=True)
class LabelSet:
    """Ordered labels, each with the name of its noun synset in WordNet 3.0, or None if it has none."""

    name: str  # coco80, or the path of a text file
    labels: tuple[str, ...]
    synsets: tuple[str | None, ...]
    skipped: tuple[str, ...] = ()  # labels of the file that have no synset and were left out

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> "LabelSet":
        """The labels at `rows`, in that order."""
        return LabelSet(self.name, tuple(self.labels[row] for row in rows), tuple(self.synsets[row] for row in rows))

    @property
    def sha256(self) -> str:
        """The hash of labels and synsets, in order, without the name of the set."""
        return sha256_of_bytes(
            "\n".join(self.labels).encode(), "\n".join(synset or "" for synset in self.synsets).encode()
        )


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


def load_label_set(
    name_or_path: str | Path,
    skip_unlinked: bool = False,
    quiet: bool = True,
    needed_by: str | None = "the class graph",
) -> LabelSet:
    """Return a named label set (`coco80`, `nuswide81`, `voc20`, `imagenet1k`), or read a text file of labels.

    `imagenet1k` has torchvision's index order and names.

    Args:
        name_or_path: of the set.
        skip_unlinked: leave out the labels of a file that have no synset, and log their number and the first of them.
        quiet: log nothing.
        needed_by: what needs the synset of every label, for the sentence of an error; None keeps labels without one,
            and logs their number and the first of them.

    Raises:
        UsageError: no such set or file, an invalid line, labels without a synset, or no label with one. The sentence
            names the first problems; `mlzsl-labels FILE` lists them all.
    """
    name = str(name_or_path)
    if name in NAMED_SETS:
        if skip_unlinked:
            raise UsageError(f"--skip-unlinked: has no effect on {name}, whose labels all have a synset; leave it out.")
        return _named(name)
    if not os.path.exists(name):
        similar = difflib.get_close_matches(name.lower(), NAMED_SETS, 1, cutoff=0.5)
        hint = f" Did you mean {similar[0]}?" if similar else ""
        raise UsageError(
            f"no label set is called {name!r}, and no such file exists; known are {', '.join(NAMED_SETS)}.{hint}"
        )
    file = read_label_file(name)
    if file.problems:
        count = len(file.problems) - 1
        more = f" There {'is' if count == 1 else 'are'} {count} more; `mlzsl-labels {name}` lists all." if count else ""
        raise UsageError(file.problems[0][1] + more)
    links = link_label_file(file, quiet, suggestions=MAX_NAMED)
    unlinked = [(line, link) for line, link in zip(file.lines, links, strict=True) if isinstance(link, NoSynsetError)]
    keep = needed_by is None and not skip_unlinked
    if unlinked and not (skip_unlinked or keep):
        raise _unlinked_labels(file, unlinked, needed_by)
    labels = linked_labels(file, links, keep)
    if unlinked and keep:
        log(
            f"{name}: {len(unlinked):,} of {plural(len(file.lines), 'label')} have no synset and are known by their "
            f"names only: {first_of([_with_synset(line) for line, _ in unlinked])}",
            quiet,
        )
    if labels.skipped:
        left_out = f"{len(labels.skipped):,} of {plural(len(file.lines), 'label')}"
        if not labels.labels:
            raise UsageError(f"{name}: no label has a synset; `mlzsl-labels {name}` shows similar synsets.")
        log(
            f"{name}: left out {left_out}, which have no synset: {first_of(list(labels.skipped))}; "
            f"`mlzsl-labels {name}` lists all with similar synsets",
            quiet,
        )
    return labels


def read_label_file(path: str | Path) -> LabelFile:
    """Read a file of labels; invalid lines (blank, repeated, malformed) become sentences in `problems`.

    Raises:
        UsageError: the file is not readable text: missing, a folder, too large, not UTF-8, or empty.
    """
    text = read_text(Path(path), MAX_BYTES, "name a text file of labels, one a line")
    if not text.strip():
        raise UsageError(f"{path}: has no labels; write one a line.")
    lines: list[LabelLine] = []
    problems: list[tuple[int, str]] = []
    first_lines: dict[tuple[str, int], int] = {}
    for number, row in enumerate(text.splitlines(), start=1):
        before, tab, after = row.partition("\t")
        label, synset = " ".join(before.split()), after.strip()
        key = label_key(label), label.count("-")  # large lists have both "t-shirt" and "t shirt"
        problem = _problem(row, label, bool(tab), synset)
        if problem is None and key in first_lines:
            problem = f"{label!r} is already on line {first_lines[key]}; remove one of them."
        if problem is None:
            first_lines[key] = number
            lines.append(LabelLine(number, label, synset or None))
        else:
            problems.append((number, one_line(f"{path}, line {number}: {problem}")))
    return LabelFile(str(path), tuple(lines), tuple(problems))


def link_label_file(
    file: LabelFile, quiet: bool = True, suggestions: int | None = None
) -> list[LinkedLabel | NoSynsetError]:
    """Link every label of a file to its synset: a link, or the reason that there is none, for each of `file.lines`.

    Args:
        file: the labels.
        quiet: show no progress; it is shown from MANY_LABELS labels on.
        suggestions: for how many unlinked labels similar synsets are looked up; None for all.
    """
    taxonomy, known = Taxonomy.shipped(), known_names()
    links: list[LinkedLabel | NoSynsetError] = []
    proper_names = any(line.label.islower() for line in file.lines)
    failed = 0
    with progress("linking labels", len(file.lines), "labels", quiet or len(file.lines) < MANY_LABELS) as shown:
        for line in file.lines:
            try:
                suggest = suggestions is None or failed < suggestions
                links.append(link_label(taxonomy, line.label, line.synset, known, proper_names, suggest))
            except NoSynsetError as error:
                links.append(error)
                failed += 1
            shown.advance()
    return links


def linked_labels(
    file: LabelFile, links: Sequence[LinkedLabel | NoSynsetError], keep_unlinked: bool = False
) -> LabelSet:
    """The labels of a file with their synsets; those without one are kept without it, or are its `skipped`."""
    synsets = [link.synset if isinstance(link, LinkedLabel) else None for link in links]
    pairs = [(line.label, synset) for line, synset in zip(file.lines, synsets, strict=True)]
    kept = [(label, synset) for label, synset in pairs if synset or keep_unlinked]
    return LabelSet(
        file.path,
        tuple(label for label, _ in kept),
        tuple(synset for _, synset in kept),
        skipped=tuple(label for label, synset in pairs if not (synset or keep_unlinked)),
    )


def require_synsets(labels: LabelSet, needed_by: str) -> tuple[str, ...]:
    """The synsets of a set's labels, for what needs all of them, such as "model RGCN".

    Raises:
        UsageError: labels without one; the sentence names the first.
    """
    synsets = tuple(synset for synset in labels.synsets if synset is not None)
    if len(synsets) < len(labels):
        missing = [label for label, synset in zip(labels.labels, labels.synsets, strict=True) if synset is None]
        raise UsageError(
            f"{labels.name}: {len(missing):,} of {plural(len(labels), 'label')} have no synset, which {needed_by} "
            f"needs: {first_of(missing)}. Write one after each, separated by a tab, or leave them out with "
            "--skip-unlinked."
        )
    return synsets


def known_names() -> Mapping[str, str]:
    """The synset of every name of the sets linked by hand, by `label_key`; where they differ, the first set decides."""
    sets = [_named(name) for name in reversed(HAND_LINKED_SETS)]
    pairs = (pair for labels in sets for pair in zip(labels.labels, labels.synsets, strict=True))
    return {label_key(label): synset for label, synset in pairs if synset}


@functools.cache  # the package's own files never change
def _named(name: str) -> LabelSet:
    rows = [row.split("\t") for row in (DATA / f"{name}.txt").read_text(encoding="utf-8").splitlines()]
    return LabelSet(name, tuple(label for label, _ in rows), tuple(synset for _, synset in rows))


def _with_synset(line: LabelLine) -> str:
    return f"{line.label} ({line.synset} does not exist)" if line.synset else line.label


def _unlinked_labels(
    file: LabelFile, unlinked: Sequence[tuple[LabelLine, NoSynsetError]], needed_by: str | None
) -> UsageError:
    if len(unlinked) == 1:
        line, error = unlinked[0]
        return UsageError(
            f"{file.path}, line {line.line}: {str(error).rstrip('.')}; or leave it out with --skip-unlinked"
            + (f", as {needed_by} needs the synset of every label." if needed_by else ".")
        )
    named = [
        f"{line.label!r} (line {line.line}" + (f"; similar is {error.similar[0]})" if error.similar else ")")
        for line, error in unlinked
    ]
    return UsageError(
        f"{file.path}: {len(unlinked):,} of {plural(len(file.lines), 'label')} have no synset"
        + (f", which {needed_by} needs" if needed_by else "")
        + f": {first_of(named)}. Write one after each, separated by a tab, or leave them out with --skip-unlinked; "
        f"`mlzsl-labels {file.path}` lists all."
    )


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
    for what, text in (("label", label), ("synset", synset)):
        if len(text) > MAX_LABEL_LENGTH:
            return f"has a {what} of {len(text)} characters; the limit is {MAX_LABEL_LENGTH}."
    if any(unicodedata.category(character) in {"Cc", "Cf", "Co", "Cs", "Cn"} for character in label):
        return f"has a character that cannot be printed in {label!r}; remove it."
    return None
