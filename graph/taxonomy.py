"""The noun hierarchy of WordNet 3.0: synsets, their hypernyms, lemmas and glosses.

The package contains it as compact data (`graph/data`, made by tools/build_taxonomy.py); WordNet need not be installed.
A synset is named `dog.n.01`; arrays are indexed by its position in WordNet's own order.
"""

import functools
import lzma
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.cli.text import label_key
from mlzsl.graph.spelling import WordIndex

DATA = Path(__file__).parent / "data"

_WNID = re.compile(r"n\d{8}")
_SENSE = re.compile(r"(.+)\.n\.(\d{1,3})")
_EXAMPLES = re.compile(r'"[^"]*"?')
_UNPUNCTUATED = str.maketrans({"-": "_", "'": None, ".": None})


class NoSynsetError(UsageError):
    """A name that no noun synset of WordNet 3.0 has; `similar` are names of synsets that may be meant."""

    def __init__(self, sentence: str, similar: Sequence[str] = ()) -> None:
        super().__init__(sentence)
        self.similar = tuple(similar)


class UnknownSynsetError(NoSynsetError):
    """There is no synset of this name or wnid."""


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
                lemma_lines=read_lines(DATA / "lemmas.txt.xz"),
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
        lemma = synset.lower().rsplit(".", 2)[0]
        words = self.similar_lemmas("_".join(label_key(lemma).split()), 3)
        similar = self.senses(lemma)[:5] or tuple(f"{word}.n.01" for word, _ in words)
        hint = f"similar are {', '.join(similar)}" if similar else "give a name such as dog.n.01, or a wnid"
        raise UnknownSynsetError(f"{synset!r} is not a noun synset of WordNet 3.0; {hint}.", similar)

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

    def senses(self, name: str, common_first: bool = False) -> tuple[str, ...]:
        """The noun synsets of a name, first sense first; none if WordNet lacks the name.

        Case, accents and punctuation do not matter, and spaces are the same as `_`, `-` or nothing.

        Args:
            name: such as `traffic light`.
            common_first: whether synsets come first that write the name in lower case, which proper names are not.
        """
        lemma, indices = self._lemma(name)
        if common_first:
            indices = sorted(indices, key=lambda index: lemma not in self.lemmas(index))
        return tuple(self.names[index] for index in indices)

    def common_senses(self, name: str) -> tuple[str, ...]:
        """Those of `senses` that write the name in lower case."""
        lemma, indices = self._lemma(name)
        return tuple(self.names[index] for index in indices if lemma in self.lemmas(index))

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
        lines = (line.split(" ") for line in read_lines(DATA / "plurals.txt.xz"))
        return {plural: tuple(singulars) for plural, *singulars in lines}

    @functools.cached_property
    def plurals_by_hand(self) -> dict[str, str]:
        """The synset of plurals that are words of their own, but not for what photos show: `men` -> man.n.01."""
        lines = (DATA / "plurals_by_hand.txt").read_text(encoding="utf-8").splitlines()
        return dict(line.split("\t") for line in lines)

    def similar_lemmas(self, lemma: str, count: int) -> list[tuple[str, float]]:
        """Up to `count` lemmas in lower case that are spelled like this one, with difflib's ratio, best first."""
        return self._spellings.nearest(lemma, count)

    @functools.cached_property
    def glosses(self) -> tuple[str, ...]:
        """Definition and examples of every synset, as in WordNet."""
        return read_lines(DATA / "glosses.txt.xz")

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

    def _lemma(self, name: str) -> tuple[str, list[int]]:
        """WordNet's lemma of a name, in lower case, with its synsets, first sense first."""
        lemma = next((each for each in self._lemmas_of(name) if each in self.senses_of_lemmas), "")
        return lemma, self.senses_of_lemmas.get(lemma, [])

    def _lemmas_of(self, name: str) -> Iterator[str]:
        """Yield the lemmas that a name may be, best first."""
        words = _unaccented(label_key(name)).split()  # all lemmas are ASCII
        lemma = "_".join(words)
        yield lemma
        yield from self._punctuated.get(lemma.translate(_UNPUNCTUATED), ())
        yield "".join(words)

    @functools.cached_property
    def _punctuated(self) -> dict[str, list[str]]:
        """The lemmas with hyphens, apostrophes and dots, by how they read without: `t_shirt` -> [`t-shirt`]."""
        found: dict[str, list[str]] = {}
        for lemma in self.senses_of_lemmas:
            if (plain := lemma.translate(_UNPUNCTUATED)) != lemma:
                found.setdefault(plain, []).append(lemma)
        return found

    @functools.cached_property
    def _spellings(self) -> WordIndex:
        return WordIndex(self.senses_of_lemmas)


def read_lines(path: Path) -> tuple[str, ...]:
    """The lines of a compressed text file of the package's data."""
    return tuple(lzma.decompress(path.read_bytes()).decode("utf-8").splitlines())


def _unaccented(text: str) -> str:
    return "".join(each for each in unicodedata.normalize("NFD", text) if not unicodedata.combining(each))
