"""Label embeddings from a text file of word vectors, with fallbacks for labels that the file lacks.

A name has a vector if the file has the whole name, its spaces as `_` or `-`, or else all of its words, which are
averaged. A label without a vector gets that of its first synonym that has one, in WordNet's order, or else that of its
nearest hypernym that has one. No vector is ever random.

The file is in GloVe's format: a word and its numbers on each line, separated by spaces. It is read line by line: a file
of any size needs memory for the wanted words only.
"""

import codecs
import gzip
import hashlib
import re
import unicodedata
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlzsl.cli.errors import UsageError, reason_of
from mlzsl.cli.inputs import encoding_by_mark
from mlzsl.cli.text import first_of, label_key
from mlzsl.graph.embeddings.source import NAMED_SOURCES, EmbeddedLabels, EmbeddingSource, How, Origin, Role
from mlzsl.graph.labels.linking import UnlinkedLabelError
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.graph.spelling import WordIndex
from mlzsl.graph.taxonomy import Taxonomy

MAX_LINE = 2**20  # bytes; 300 numbers take 3,000
DIMENSIONS = range(2, 2**16)
NUMBERBATCH = b"/c/en/"


@dataclass(frozen=True)
class WordVectors:
    """The wanted words that one reading of a file found."""

    vectors: dict[str, NDArray[np.float32]]  # word in lower case -> [dimension]
    dimension: int
    sha256: str  # of the whole file
    names: tuple[str, ...] = ()  # all words of the file, if it was read whole


Reader = Callable[[str | Path, Collection[str]], WordVectors]  # (path, wanted words)


class TextEmbeddings:
    """The vectors of one file, which is read when a label is first needed, and again for new words."""

    def __init__(self, path: str | Path, taxonomy: Taxonomy | None = None, read: Reader | None = None) -> None:
        """Args: the file, where synonyms are looked up, and what reads the file: `read_vectors`, or `read_array`.

        Raises:
            UsageError: there is no such file.
        """
        if not Path(path).is_file():
            raise UsageError(f"{path}: no such file; name a file of vectors, or {', '.join(NAMED_SOURCES)}.")
        self._reader = read or read_vectors
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
            similar = WordIndex(self._read(frozenset()).names).nearest(label_key(missing[0]), 3)
            hint = f" (similar to the first are {', '.join(name for name, _ in similar)})" if similar else ""
            raise UnlinkedLabelError(
                f"{self._path}: has no vector for the {role} label(s) {first_of(missing)}, nor for their synonyms and "
                f"hypernyms{hint}; choose a file with more words, or {' or '.join(NAMED_SOURCES)}."
            )
        pairs = [pair for pair in found if pair is not None]
        vectors = np.array([vector for vector, _ in pairs], np.float32).reshape(len(pairs), self.source.dimension)
        return EmbeddedLabels(vectors, tuple(origin for _, origin in pairs))

    def find(self, label: str, synset: str | None) -> Origin | None:
        """The origin of one label's vector, None if it has no vector; `preload` its set before."""
        pair = self._vector(label, synset)
        return pair and pair[1]

    def _read(self, words: frozenset[str]) -> WordVectors:
        if self._found is None or not words <= self._wanted:
            self._wanted |= words
            self._found = self._reader(self._path, self._wanted)
        return self._found

    def _words(self, label_sets: tuple[LabelSet, ...]) -> Iterator[str]:
        """Yield every key of the file that the vectors of these labels may come from."""
        names = {label for labels in label_sets for label in labels.labels}
        indices = {self._taxonomy.index(synset) for labels in label_sets for synset in labels.synsets if synset}
        for ancestor in {ancestor for index in indices for ancestor in self._taxonomy.ancestors(index)}:
            names.update(self._taxonomy.lemmas(ancestor))
        for name in names:
            yield from _name_keys(name)
            for word in _words_of(name):
                yield from _word_keys(word)

    def _vector(self, label: str, synset: str | None) -> tuple[NDArray[np.float32], Origin] | None:
        vectors = self._read(frozenset()).vectors
        for fallback, name in self._names(label, synset):
            if (found := _vector_of_name(vectors, name)) is not None:
                vector, how, via = found
                return vector, Origin(fallback or how, via)
        return None

    def _names(self, label: str, synset: str | None) -> Iterator[tuple[How | None, str]]:
        """Yield the names whose vectors a label may get, best first, and the kind of fallback (None: its own name)."""
        yield None, label
        if synset is None:
            return
        for ancestor, steps in self._taxonomy.ancestors(self._taxonomy.index(synset)).items():
            for lemma in self._taxonomy.lemmas(ancestor):
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
    """The keys that a whole name may have in the file: `hot-air balloon` has three."""
    words, parts = _composed(name).replace("_", " ").split(), label_key(name).split()
    return tuple(dict.fromkeys(("_".join(words), "_".join(parts), "-".join(parts))))


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name.lower())


def _words_of(name: str) -> list[str]:
    """The words of a name: `jack-o'-lantern` has three."""
    return [word for word in re.split(r"[\s_\-/]+", _composed(name)) if word.strip("'.,")]


def _word_keys(word: str) -> tuple[str, ...]:
    """The keys that a word may have in the file: GloVe splits `potter's`, and drops the dots of `st.`."""
    return word, word.removesuffix("'s"), word.strip("'.,()")


def read_vectors(path: str | Path, wanted: Collection[str]) -> WordVectors:
    """Read a file once, keep the vectors of the wanted words (in lower case) and check the format of every line.

    Case does not matter; of several spellings, the one in lower case is used, else the first. A header of two numbers,
    as in word2vec's and fastText's files, is skipped, and so is the prefix of Numberbatch's words (`/c/en/dog`). A word
    may be blank, as in fastText's files. Tabs separate like spaces, and a `.gz` file is unpacked while it is read.

    Raises:
        UsageError: the file is missing or empty, or a line is broken: too few or too many numbers, or a wanted word
            with a value that is not a finite number. The sentence names the line.
    """
    keys = {word.encode("utf-8"): word for word in wanted}
    vectors: dict[str, NDArray[np.float32]] = {}
    digest = hashlib.sha256()
    dimension = 0
    for number, line in _lines(Path(path)):
        digest.update(line)
        text = line.rstrip(b" \r\n\t").replace(b"\t", b" ")
        if number == 1:
            if encoding := encoding_by_mark(line):
                raise UsageError(f"{path}: is in {encoding} by its byte-order mark; save the file as UTF-8.")
            text = text.removeprefix(codecs.BOM_UTF8)
        if number == 1 and re.fullmatch(rb"\d+\s+\d+", text):
            continue
        where = f"{path}, line {number}"
        if not dimension:
            dimension = _dimension(text, where)
        word = _word(text, dimension, where)
        key = word.lower().strip().removeprefix(NUMBERBATCH)
        if not key.isascii():
            key = _composed(key.decode("utf-8", "replace")).encode("utf-8", "replace")
        if key in keys and (keys[key] not in vectors or word.endswith(key)):
            vectors[keys[key]] = _numbers(text, dimension, where)
    if not dimension:
        raise UsageError(f"{path}: has no word vectors; expected a word and its numbers on each line.")
    return WordVectors(vectors, dimension, digest.hexdigest())


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), 1):
                if len(line) == MAX_LINE:
                    raise UsageError(
                        f"{path}, line {number}: is over {MAX_LINE:,} bytes long; this is not a text file of vectors."
                    )
                yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(
            f"{path}: cannot be read ({reason_of(error)}); name a text file of word vectors, or `taxonomy`."
        ) from error


def _dimension(line: bytes, where: str) -> int:
    dimension = len(line.split(b" ")) - 1
    if dimension not in DIMENSIONS or not all(_is_number(field) for field in line.split(b" ")[1:]):
        raise UsageError(f"{where}: {_shown(line)} is not a word and its numbers, separated by single spaces.")
    return dimension


def _word(line: bytes, dimension: int, where: str) -> bytes:
    """The word of a line; GloVe's largest file has a few words with spaces in them, such as `. . .`."""
    spaces = line.count(b" ")
    if spaces == dimension:
        return line[: line.index(b" ")]
    word, *extra = line.rsplit(b" ", dimension)[0].split(b" ")
    if spaces > dimension and not any(_is_number(field) for field in extra):
        return b" ".join((word, *extra))
    raise UsageError(
        f"{where}: {_shown(line)} has {spaces} numbers where the first line has {dimension}; "
        "the file is damaged: download it again."
    )


def _numbers(line: bytes, dimension: int, where: str) -> NDArray[np.float32]:
    try:
        vector = np.array([float(field) for field in line.rsplit(b" ", dimension)[1:]], np.float32)
    except ValueError:
        vector = np.full(dimension, np.nan, np.float32)
    if not np.isfinite(vector).all():
        raise UsageError(f"{where}: {_shown(line)} has a value that is not a finite number; download the file again.")
    return vector


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _shown(line: bytes) -> str:
    """The beginning of a line, for a sentence."""
    return repr(line[:24].decode("utf-8", "replace"))
