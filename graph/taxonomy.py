"""The noun hierarchy of WordNet 3.0: synsets, their hypernyms, lemmas and glosses.

The package contains it as compact data (`graph/data`, made by tools/build_taxonomy.py); WordNet need not be installed.
A synset is named `dog.n.01`; arrays are indexed by its position in WordNet's own order.
"""

import difflib
import functools
import lzma
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import sha256_of_bytes

DATA = Path(__file__).parent / "data"

_WNID = re.compile(r"n\d{8}")
_SENSE = re.compile(r"(.+)\.n\.(\d{1,3})")
_EXAMPLES = re.compile(r'"[^"]*"?')


class UnknownSynsetError(UsageError):
    """WordNet 3.0 has no noun synset of this name."""


@dataclass(frozen=True, eq=False)
class Taxonomy:
    """Noun synsets and their hypernyms (instance hypernyms included)."""

    offsets: NDArray[np.int32]  # [M], byte offsets in WordNet's data.noun, ascending; wnids are made of them
    hypernym_starts: NDArray[np.int32]  # [M + 1], the start of each synset's hypernyms in `hypernyms`
    hypernyms: NDArray[np.int32]  # [H], indices of the hypernyms, those of a synset in WordNet's order
    hyponym_counts: NDArray[np.int32]  # [M], the number of synsets below each, at any depth
    lemma_lines: tuple[str, ...]  # M lines: a synset's lemmas, spaces as "_", separated by spaces
    lemma_senses: NDArray[np.uint8]  # for each lemma of each line, the number of the lemma's sense, from 1

    @staticmethod
    @functools.cache  # the data never changes, and many callers use it
    def shipped() -> "Taxonomy":
        """All 82,115 noun synsets of WordNet 3.0, read once from the package's data."""
        with np.load(DATA / "hierarchy.npz", allow_pickle=False) as arrays:
            counts = arrays["hypernym_counts"]
            return Taxonomy(
                offsets=np.cumsum(arrays["offset_steps"], dtype=np.int32),
                hypernym_starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
                hypernyms=arrays["hypernyms"],
                hyponym_counts=arrays["hyponym_counts"],
                lemma_lines=_lines(DATA / "lemmas.txt.xz"),
                lemma_senses=arrays["senses"],
            )

    def __len__(self) -> int:
        return len(self.offsets)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The name of every synset: its first lemma, `.n.`, and the number of the lemma's sense."""
        counts = np.array([line.count(" ") + 1 for line in self.lemma_lines])
        first_senses = self.lemma_senses[np.cumsum(counts) - counts].tolist()
        return tuple(
            f"{line.partition(' ')[0].lower()}.n.{sense:02d}"
            for line, sense in zip(self.lemma_lines, first_senses, strict=True)
        )

    @functools.cached_property
    def indices(self) -> dict[str, int]:
        """The index of each synset name in the taxonomy's arrays."""
        return {name: index for index, name in enumerate(self.names)}

    @functools.cached_property
    def sha256(self) -> str:
        """The hash of what similarity and embeddings depend on: hierarchy, lemmas and senses."""
        arrays = (self.offsets, self.hypernym_starts, self.hypernyms, self.hyponym_counts, self.lemma_senses)
        lemmas = "\n".join(self.lemma_lines).encode("utf-8")
        return sha256_of_bytes(*(array.astype("<i4").tobytes() for array in arrays), lemmas)

    def index(self, synset: str) -> int:
        """The index of a synset in the arrays.

        Args:
            synset: its name, `dog.n.01`, any of its lemmas with that lemma's sense, `cellphone.n.01`, or its wnid,
                `n02084071`.

        Raises:
            UnknownSynsetError: there is no such noun synset; the sentence names similar ones.
        """
        if synset in self.indices:
            return self.indices[synset]
        if _WNID.fullmatch(synset):
            offset = int(synset[1:])
            index = int(np.searchsorted(self.offsets, offset))
            if index < len(self) and self.offsets[index] == offset:
                return index
        if sense := _SENSE.fullmatch(synset.lower()):
            senses = self.senses_of_lemmas.get(sense[1], [])
            if 1 <= int(sense[2]) <= len(senses):
                return senses[int(sense[2]) - 1]
        raise UnknownSynsetError(f"{synset!r} is not a noun synset of WordNet 3.0{self._suggestions(synset)}")

    def name(self, synset: str) -> str:
        """The canonical name of a synset; raises as `index`."""
        return self.names[self.index(synset)]

    def wnid(self, synset: str) -> str:
        """The ImageNet id of a synset, such as `n02084071`; raises as `index`."""
        return f"n{self.offsets[self.index(synset)]:08d}"

    def lemmas(self, index: int) -> list[str]:
        """A synset's lemmas (synonyms) in WordNet's order and spelling, spaces as `_`."""
        return self.lemma_lines[index].split(" ")

    def gloss(self, synset: str) -> str:
        """The definition of a synset, without WordNet's examples."""
        return _EXAMPLES.sub("", self.glosses[self.index(synset)]).strip("; ")

    def senses(self, lemma: str) -> tuple[str, ...]:
        """The noun synsets of a lemma, first sense first; none if WordNet lacks the lemma.

        Case does not matter, and a space is the same as `_`.
        """
        return tuple(self.names[index] for index in self.senses_of_lemmas.get(_key(lemma), ()))

    def parents(self, index: int) -> list[int]:
        """The indices of a synset's direct hypernyms, in WordNet's order."""
        parents: list[int] = self.hypernyms[self.hypernym_starts[index] : self.hypernym_starts[index + 1]].tolist()
        return parents

    def ancestors(self, index: int) -> dict[int, int]:
        """Every hypernym of a synset, itself included, with the fewest steps up to it, in ascending order of steps."""
        steps = {index: 0}
        visited = [index]
        for synset in visited:  # grows while it is walked: breadth first
            for parent in self.parents(synset):
                if parent not in steps:
                    steps[parent] = steps[synset] + 1
                    visited.append(parent)
        return steps

    @functools.cached_property
    def min_depths(self) -> NDArray[np.int32]:
        """[M]: steps of the shortest path from each synset to the root."""
        return self._depths(np.minimum)

    @functools.cached_property
    def max_depths(self) -> NDArray[np.int32]:
        """[M]: steps of the longest path from each synset to the root."""
        return self._depths(np.maximum)

    @functools.cached_property
    def senses_of_lemmas(self) -> dict[str, list[int]]:
        """For each lemma in lower case, the indices of its synsets, first sense first."""
        numbered: dict[str, dict[int, int]] = {}
        senses = iter(self.lemma_senses.tolist())
        for index, line in enumerate(self.lemma_lines):
            for lemma in line.lower().split(" "):
                numbered.setdefault(lemma, {})[next(senses)] = index
        return {
            lemma: [indices[sense] for sense in sorted(indices)] if len(indices) > 1 else list(indices.values())
            for lemma, indices in numbered.items()
        }

    @functools.cached_property
    def irregular_plurals(self) -> dict[str, tuple[str, ...]]:
        """WordNet's list of irregular plurals: `geese` -> (`goose`,)."""
        lines = (line.split(" ") for line in _lines(DATA / "plurals.txt.xz"))
        return {plural: tuple(singulars) for plural, *singulars in lines}

    @functools.cached_property
    def glosses(self) -> tuple[str, ...]:
        """Definition and examples of every synset, as in WordNet."""
        return _lines(DATA / "glosses.txt.xz")

    def _depths(self, choose: np.ufunc) -> NDArray[np.int32]:
        """Lengths of the longest (np.maximum) or shortest (np.minimum) paths to the root, by relaxation."""
        starts = self.hypernym_starts[:-1]
        below_root = np.flatnonzero(np.diff(self.hypernym_starts))
        depths = np.zeros(len(self), np.int32)
        for _ in range(len(self)):
            deeper = depths.copy()
            deeper[below_root] = 1 + choose.reduceat(depths[self.hypernyms], starts[below_root])
            if np.array_equal(deeper, depths):
                return depths
            depths = deeper
        raise ValueError("the hypernyms have a cycle")

    def _suggestions(self, synset: str) -> str:
        """The end of a sentence about an unknown synset: the senses of its lemma, or of similar lemmas."""
        lemma = synset.rsplit(".", 2)[0]
        words = similar_words(_key(lemma), self.senses_of_lemmas, 3)
        similar = self.senses(lemma)[:5] or tuple(f"{word}.n.01" for word in words)
        return f"; similar are {', '.join(similar)}." if similar else "; give a name such as dog.n.01, or a wnid."


def similar_words(word: str, words: Iterable[str], count: int, cutoff: float = 0.6) -> list[str]:
    """Up to `count` of the words that are spelled like `word` (difflib's ratio), the most similar first."""
    if not word:
        return []
    # Only words of the same first letter and a similar length are compared: 117,000 lemmas would take seconds.
    candidates = [other for other in words if other[:1] == word[:1] and abs(len(other) - len(word)) <= 3]
    return difflib.get_close_matches(word, candidates, count, cutoff)


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(lzma.decompress(path.read_bytes()).decode("utf-8").splitlines())


def _key(lemma: str) -> str:
    return "_".join(lemma.lower().split())
