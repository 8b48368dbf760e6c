"""Label embeddings from a text file of word vectors, with fallbacks for labels that the file lacks.

A name has a vector if the file has the whole name, its spaces as `_` or `-`, or else all of its words, which are
averaged. A label without a vector gets that of its first synonym that has one, in WordNet's order, or else that of its
nearest hypernym that has one. No vector is ever random.
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

MAX_NAMED = 10  # labels that one sentence lists


class TextEmbeddings:
    """The vectors of one text file, which is read when a label is first needed, and again for new words."""

    def __init__(self, path: str | Path, taxonomy: Taxonomy | None = None) -> None:
        """Raises UsageError if there is no such file."""
        if not Path(path).is_file():
            raise UsageError(f"{path}: no such file; name a text file of word vectors, or `taxonomy`.")
        self._path = str(path)
        self._taxonomy = taxonomy or Taxonomy.shipped()
        self._wanted: frozenset[str] = frozenset()
        self._found: WordVectors | None = None

    @property
    def source(self) -> EmbeddingSource:
        """The file and the hash of all its bytes; raises UsageError if a line is broken."""
        found = self._read(frozenset())
        return EmbeddingSource(Path(self._path).name, found.dimension, found.sha256, self._path)

    def preload(self, *label_sets: LabelSet) -> None:
        """Read the file once for all words that these sets may need; raises UsageError if a line is broken."""
        self._read(frozenset(self._words(label_sets)))

    def embed(self, labels: LabelSet, role: Role) -> EmbeddedLabels:
        """The vectors of all labels, float32 [n, dimension].

        Raises:
            UsageError: a line of the file is broken.
            UnlinkedLabelError: the file has neither the name nor a synonym or hypernym of some labels; the sentence
                names them.
        """
        self.preload(labels)
        found = [self._vector(label, synset) for label, synset in zip(labels.labels, labels.synsets, strict=True)]
        if missing := [label for label, pair in zip(labels.labels, found, strict=True) if pair is None]:
            more = f" and {len(missing) - MAX_NAMED} more" * (len(missing) > MAX_NAMED)
            raise UnlinkedLabelError(
                f"{self._path}: has no vector for the {role} label(s) {', '.join(missing[:MAX_NAMED])}{more}, nor "
                "for their synonyms and hypernyms; choose a file with more words, or `taxonomy`."
            )
        pairs = [pair for pair in found if pair is not None]
        vectors = np.array([vector for vector, _ in pairs], np.float32).reshape(len(pairs), self.source.dimension)
        return EmbeddedLabels(vectors, tuple(origin for _, origin in pairs))

    def find(self, label: str, synset: str) -> Origin | None:
        """The origin of one label's vector, None if it has no vector; `preload` its set before."""
        pair = self._vector(label, synset)
        return pair and pair[1]

    def _read(self, words: frozenset[str]) -> WordVectors:
        if self._found is None or not words <= self._wanted:
            self._wanted |= words
            self._found = read_vectors(self._path, self._wanted)
        return self._found

    def _words(self, label_sets: tuple[LabelSet, ...]) -> Iterator[str]:
        """Yield every key of the file that the vectors of these labels may come from."""
        names = {label for labels in label_sets for label in labels.labels}
        indices = {self._taxonomy.index(synset) for labels in label_sets for synset in labels.synsets}
        for ancestor in {ancestor for index in indices for ancestor in self._taxonomy.ancestors(index)}:
            names.update(self._taxonomy.lemma_lines[ancestor].split(" "))
        for name in names:
            yield from _name_keys(name)
            for word in _words_of(name):
                yield from _word_keys(word)

    def _vector(self, label: str, synset: str) -> tuple[NDArray[np.float32], Origin] | None:
        vectors = self._read(frozenset()).vectors
        for fallback, name in self._names(label, synset):
            if (found := _vector_of_name(vectors, name)) is not None:
                vector, how, via = found
                return vector, Origin(fallback or how, via)
        return None

    def _names(self, label: str, synset: str) -> Iterator[tuple[How | None, str]]:
        """Yield the names whose vectors a label may get, best first, and the kind of fallback (None: its own name)."""
        yield None, label
        for ancestor, steps in self._taxonomy.ancestors(self._taxonomy.index(synset)).items():
            for lemma in self._taxonomy.lemma_lines[ancestor].split(" "):
                yield "hypernym" if steps else "synonym", lemma


def _vector_of_name(vectors: dict[str, NDArray[np.float32]], name: str) -> tuple[NDArray[np.float32], How, str] | None:
    """The vector of a name, how it was found, and by which keys; None if the file lacks the name."""
    for key in _name_keys(name):
        if key in vectors:
            return vectors[key], "name", key
    words = [next((key for key in _word_keys(word) if key in vectors), None) for word in _words_of(name)]
    keys = [word for word in words if word is not None]
    if not keys or len(keys) < len(words):
        return None
    average: NDArray[np.float64] = np.stack([vectors[key] for key in keys]).mean(axis=0, dtype=np.float64)
    return average.astype(np.float32), "words", " + ".join(keys)


def _name_keys(name: str) -> tuple[str, ...]:
    """The keys that a whole name may have in the file."""
    words = name.lower().replace("_", " ").split()
    return "_".join(words), "-".join(words)


def _words_of(name: str) -> list[str]:
    """The words of a name: `jack-o'-lantern` has three."""
    return [word for word in re.split(r"[\s_\-/]+", name.lower()) if word.strip("'.,")]


def _word_keys(word: str) -> tuple[str, ...]:
    """The keys that a word may have in the file: GloVe splits `potter's`, and drops the dots of `st.`."""
    return word, word.removesuffix("'s"), word.strip("'.,()")
