"""Sets of labels with their synsets: four by name, and any text file of labels."""

import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.graph.labels.files import LabelFile, read_label_file
from mlzsl.graph.labels.linking import LinkedLabel, link_label
from mlzsl.graph.taxonomy import DATA, Taxonomy

NAMED_SETS = ("coco80", "nuswide81", "voc20", "imagenet1k")
KNOWN_NAMES_FROM = ("coco80", "nuswide81", "voc20")  # the first that has a name decides what it means

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
    """Ordered labels, each with the name of its noun synset in WordNet 3.0."""

    name: str  # coco80, or the path of a text file
    labels: tuple[str, ...]
    synsets: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sha256(self) -> str:
        """The hash of labels and synsets, in order; the name of the set is not in it."""
        return sha256_of_bytes("\n".join(self.labels).encode(), "\n".join(self.synsets).encode())


def load_label_set(name_or_path: str | Path) -> LabelSet:
    """Return a named label set (`coco80`, `nuswide81`, `voc20`, `imagenet1k`), or read a text file of labels.

    `imagenet1k` is in torchvision's index order with torchvision's names.

    Raises:
        UsageError: no such set or file; a line that is unfit; a label that cannot be placed in WordNet. The
            sentence names the first; `mlzsl-labels FILE` lists them all.
    """
    if str(name_or_path) in NAMED_SETS:
        return _named(str(name_or_path))
    if not Path(name_or_path).exists():
        raise UsageError(_unknown(str(name_or_path)))
    file = read_label_file(name_or_path)
    linked, problems = link_label_file(file)
    if problems:
        raise UsageError(problems[0] + _others(len(problems) - 1, file.path))
    return LabelSet(file.path, tuple(line.label for line in file.lines), tuple(p.synset for p in linked if p))


def link_label_file(file: LabelFile) -> tuple[list[LinkedLabel | None], list[str]]:
    """Place every label of a file; None where that fails.

    Returns:
        a placement for each of `file.lines`, and a sentence for every problem of reading or placing, by line.
    """
    taxonomy = Taxonomy.shipped()
    known = known_names()
    linked: list[LinkedLabel | None] = []
    problems = list(file.problems)
    for line in file.lines:
        try:
            linked.append(link_label(taxonomy, line.label, line.synset, known))
        except UsageError as error:
            linked.append(None)
            problems.append((line.line, f"{file.path}, line {line.line}: {error}"))
    return linked, [sentence for _, sentence in sorted(problems)]


def known_names() -> Mapping[str, str]:
    """Return the synset of every name of the hand-checked sets; where they differ, the first set decides."""
    names: dict[str, str] = {}
    for set_name in KNOWN_NAMES_FROM:
        labels = _named(set_name)
        for label, synset in zip(labels.labels, labels.synsets, strict=True):
            names.setdefault(label.lower(), synset)
    return names


@functools.cache  # the package's own files never change
def _named(name: str) -> LabelSet:
    rows = [row.split("\t") for row in (DATA / f"{name}.txt").read_text(encoding="utf-8").splitlines()]
    return LabelSet(name, tuple(label for label, _ in rows), tuple(synset for _, synset in rows))


def _others(count: int, path: str) -> str:
    if count == 0:
        return ""
    return f" There {'is' if count == 1 else 'are'} {count} more; `mlzsl-labels {path}` lists all."


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), NAMED_SETS, 1, cutoff=0.5)
    meant = f" Did you mean {near[0]}?" if near else ""
    return f"no label set is called {name!r}, and no such file exists; known are {', '.join(NAMED_SETS)}.{meant}"
