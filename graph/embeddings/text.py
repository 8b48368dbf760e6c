"""Label embeddings from a text file of word vectors, and what stands in where the file lacks a label.

A name has a vector if the file has it whole, its blanks as `_` (or as `-`), or else if the file has all its words:
then it is their average. A label without one takes that of the first of its synonyms that has one, in WordNet's
order; else of its nearest hypernym that has one. Never a random vector.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlzsl.cli.errors import UsageError
from mlzsl.graph.embeddings.source import EmbeddedLabels, EmbeddingSource, How, Origin, Role
from mlzsl.graph.embeddings.vectorfile import WordVectors, read_vectors
from mlzsl.graph.labels.linking import UnlinkedLabelError
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.graph.taxonomy import Taxonomy

MOST_NAMED = 10  # labels that one sentence lists


class TextEmbeddings:
    """The vectors of one text file; the file is read when a label is first asked for, and again for new words."""

    def __init__(self, path: str | Path, taxonomy: Taxonomy | None = None) -> None:
        """Raises UsageError where there is no such file."""
        if not Path(path).is_file():
            raise UsageError(f"{path}: no such file; name a text file of word vectors, or `taxonomy`.")
        self._path = str(path)
        self._taxonomy = taxonomy or Taxonomy.shipped()
        self._looked_for: frozenset[str] = frozenset()
        self._found: WordVectors | None = None

    @property
    def source(self) -> EmbeddingSource:
        """The file; its hash is that of all its bytes. Raises UsageError where a line is broken."""
        found = self._read(frozenset())
        return EmbeddingSource(Path(self._path).name, found.dimension, found.sha256, self._path)

    def preload(self, *label_sets: LabelSet) -> None:
        """Read the file once for all words that these sets may need. Raises UsageError where a line is broken."""
        self._read(frozenset(self._words(label_sets)))

    def embed(self, labels: LabelSet, role: Role) -> EmbeddedLabels:
        """Return a vector for every label, float32 [n, dimension].

        Raises:
            UsageError: a line of the file is broken.
            UnplacedLabelError: neither names nor synonyms nor hypernyms of some labels are in the file; the
                sentence names the labels.
        """
        self.preload(labels)
        found = [self._vector(label, synset) for label, synset in zip(labels.labels, labels.synsets, strict=True)]
        if missing := [label for label, pair in zip(labels.labels, found, strict=True) if pair is None]:
            more = f" and {len(missing) - MOST_NAMED} more" * (len(missing) > MOST_NAMED)
            raise UnlinkedLabelError(
                f"{self._path}: has no vector for the {role} label(s) {', '.join(missing[:MOST_NAMED])}{more}, nor "
                "for their synonyms and hypernyms; choose a file with more words, or `taxonomy`."
            )
        pairs = [pair for pair in found if pair is not None]
        vectors = np.empty((len(pairs), self.source.dimension), np.float32)
        for row, (vector, _) in enumerate(pairs):
            vectors[row] = vector
        return EmbeddedLabels(vectors, tuple(origin for _, origin in pairs))

    def find(self, label: str, synset: str) -> Origin | None:
        """Return how one label gets its vector, None where it gets none; `preload` its set before."""
        pair = self._vector(label, synset)
        return pair and pair[1]

    def _read(self, words: frozenset[str]) -> WordVectors:
        if self._found is None or not words <= self._looked_for:
            self._looked_for |= words
            self._found = read_vectors(self._path, self._looked_for)
        return self._found

    def _words(self, label_sets: tuple[LabelSet, ...]) -> Iterator[str]:
        """Yield every key that the vectors of these labels could come from."""
        names = {label for labels in label_sets for label in labels.labels}
        indices = {self._taxonomy.index(synset) for labels in label_sets for synset in labels.synsets}
        for ancestor in {above for index in indices for above in self._taxonomy.ancestors(index)}:
            names.update(self._taxonomy.lemma_lines[ancestor].split(" "))
        for name in names:
            yield from _whole(name)
            for word in _split(name):
                yield from _spellings(word)

    def _vector(self, label: str, synset: str) -> tuple[NDArray[np.float32], Origin] | None:
        vectors = self._read(frozenset()).vectors
        for instead, name in self._names(label, synset):
            if (found := _of_name(vectors, name)) is not None:
                vector, how, via = found
                return vector, Origin(instead or how, via)
        return None

    def _names(self, label: str, synset: str) -> Iterator[tuple[How | None, str]]:
        """Yield the names whose vectors a label may take, best first, each with what it would be for the label."""
        yield None, label
        for ancestor, steps in self._taxonomy.ancestors(self._taxonomy.index(synset)).items():
            for lemma in self._taxonomy.lemma_lines[ancestor].split(" "):
                yield "hypernym" if steps else "synonym", lemma


def _of_name(vectors: dict[str, NDArray[np.float32]], name: str) -> tuple[NDArray[np.float32], How, str] | None:
    """Return (vector, how, which keys) of a name, or None when the file does not cover it."""
    for key in _whole(name):
        if key in vectors:
            return vectors[key], "name", key
    words = [next((key for key in _spellings(word) if key in vectors), None) for word in _split(name)]
    keys = [word for word in words if word is not None]
    if not keys or len(keys) < len(words):
        return None
    average: NDArray[np.float64] = np.stack([vectors[key] for key in keys]).mean(axis=0, dtype=np.float64)
    return average.astype(np.float32), "words", " + ".join(keys)


def _whole(name: str) -> tuple[str, ...]:
    """The keys under which a file may have a whole name."""
    words = name.lower().replace("_", " ").split()
    return "_".join(words), "-".join(words)


def _split(name: str) -> list[str]:
    """The words of a name: `jack-o'-lantern` has three."""
    return [word for word in re.split(r"[\s_\-/]+", name.lower()) if word.strip("'.,")]


def _spellings(word: str) -> tuple[str, ...]:
    """The keys under which a file may have a word: GloVe splits `potter's`, and drops the dots of `st.`."""
    return word, word.removesuffix("'s"), word.strip("'.,()")
