"""The interface of label embeddings, whatever the vectors are computed or read from."""

from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mlzsl.graph.labels.sets import LabelSet

TAXONOMY: Final = "taxonomy"
SENTENCE: Final = "sentence"
MINILM: Final = "minilm"
NAMED_SOURCES = (MINILM, TAXONOMY, SENTENCE)  # the names of embeddings that need no file
Role = Literal["target", "external"]
How = Literal["taxonomy", "sentence", "minilm", "clip", "name", "words", "synonym", "hypernym"]


@dataclass(frozen=True)
class EmbeddingSource:
    """What vectors were made from; two sources of the same hash give the same vectors."""

    name: str  # "taxonomy", "minilm", "sentence", "clip:NAME", or the file's name
    dimension: int
    sha256: str
    path: str | None  # of the file; "sentence:FOLDER", "clip:NAME:FILE" for a text model of one's own


@dataclass(frozen=True)
class Origin:
    """How the vector of one label was found.

    `taxonomy`: computed from its synset. `sentence`: encoded from its name and its synset's gloss; `minilm`: such a
    vector from the package's data. `clip`: encoded from its name in prompts. `name`: the file has its whole name.
    `words`: the average of its words. `synonym`, `hypernym`: a fallback to another name, because the source lacks its
    own.
    """

    how: How
    via: str  # the name of the vector, as it is written in the file

    @property
    def is_fallback(self) -> bool:
        """Whether the vector is that of another name."""
        return self.how in ("synonym", "hypernym")


@dataclass(frozen=True)
class EmbeddedLabels:
    """Vectors of labels in their order, and the origin of each."""

    vectors: NDArray[np.float32]  # [n, d_s]
    origins: tuple[Origin, ...]  # [n]

    def take(self, rows: NDArray[np.int64]) -> "EmbeddedLabels":
        """Those of the labels at `rows`, in that order."""
        return EmbeddedLabels(self.vectors[rows], tuple(self.origins[row] for row in rows))


class Embeddings(Protocol):
    """A source of label vectors."""

    @property
    def source(self) -> EmbeddingSource:
        """What the vectors are made from."""

    def preload(self, *label_sets: LabelSet) -> None:
        """Load in one pass what `embed` needs for all of these sets, so that a large file is read once."""

    def embed(self, labels: LabelSet, role: Role) -> EmbeddedLabels:
        """The vectors of all labels.

        Raises:
            UsageError: neither the name of a label nor its synonyms or hypernyms have a vector.
        """

    def find(self, label: str, synset: str | None) -> Origin | None:
        """The origin of the vector of one label of a preloaded set; None if it has no vector."""
