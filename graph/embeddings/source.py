"""What the rooms above ask of label embeddings, wherever the vectors come from."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mlzsl.graph.labels.sets import LabelSet

Role = Literal["target", "external"]
How = Literal["taxonomy", "name", "words", "synonym", "hypernym"]


@dataclass(frozen=True)
class EmbeddingSource:
    """What vectors were made from; two sources with one hash give the same vectors."""

    name: str  # "taxonomy", or the file's name
    dimension: int
    sha256: str
    path: str | None


@dataclass(frozen=True)
class Origin:
    """How the vector of one label was found.

    `taxonomy`: computed from its synset. `name`: its whole name stands in the file. `words`: the average of its
    words. `synonym`, `hypernym`: another name stands in for it, because its own words are not all in the file.
    """

    how: How
    via: str  # the name whose vector it is, as it stands in the file

    @property
    def is_fallback(self) -> bool:
        """Whether the vector is another name's."""
        return self.how in ("synonym", "hypernym")


@dataclass(frozen=True)
class EmbeddedLabels:
    """Vectors of labels in their order, and where each came from."""

    vectors: NDArray[np.float32]  # [n, d_s]
    origin: tuple[Origin, ...]  # [n]

    def counts(self) -> dict[str, int]:
        """How many labels were found in each way."""
        return dict(Counter(origin.how for origin in self.origin))


class Embeddings(Protocol):
    """A source of label vectors."""

    @property
    def source(self) -> EmbeddingSource:
        """What the vectors are made from."""

    def preload(self, *label_sets: LabelSet) -> None:
        """Find in one go what `embed` will need for these sets; a large file is then read once, not twice."""

    def embed(self, labels: LabelSet, role: Role) -> EmbeddedLabels:
        """Return a vector for every label.

        Raises:
            UsageError: a label that neither its name, its synonyms nor its hypernyms give a vector.
        """

    def find(self, label: str, synset: str) -> Origin | None:
        """Return how one label of a gathered set gets its vector; None where it gets none."""
