"""Label embeddings computed from the WordNet hierarchy alone: the default, which needs no file.

Every synset a has a fixed direction r(a), 512 pseudo-random signs. A label is the weighted sum over its synset's
hypernyms (itself included), at unit length:

    v(s) ∝ Σ_{a ∈ hypernyms(s)} √IC(a) · r(a),    IC(a) = 1 − ln(1 + hyponyms(a)) / ln(1 + number of synsets)

Different directions are nearly orthogonal, so the cosine of two labels is nearly the share of information that
their common hypernyms hold (IC: Seco, Veale and Hayes 2004): near 1 for close kinds, near 0 for unrelated things.
A vector depends on its synset and on nothing else, so labels that training never saw fit in.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.graph.embeddings.opening import TAXONOMY
from mlzsl.graph.embeddings.source import EmbeddedLabels, EmbeddingSource, Origin, Role
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.graph.taxonomy import Taxonomy

DIMENSION = 512
METHOD = b"taxonomy embeddings 1: sqrt(IC) x 512 Philox signs"  # change it with every change of the vectors


@dataclass(frozen=True)
class TaxonomyEmbeddings:
    """Vectors for every noun synset of WordNet 3.0."""

    taxonomy: Taxonomy = field(default_factory=Taxonomy.shipped)

    @property
    def source(self) -> EmbeddingSource:
        sha256 = sha256_of_bytes(METHOD, self.taxonomy.sha256.encode())
        return EmbeddingSource(TAXONOMY, DIMENSION, sha256, path=None)

    def preload(self, *label_sets: LabelSet) -> None:
        """Nothing is to be read: vectors are computed."""

    def embed(self, labels: LabelSet, role: Role) -> EmbeddedLabels:
        directions: dict[int, NDArray[np.float64]] = {}
        vectors = np.empty((len(labels), DIMENSION), np.float32)
        for row, synset in enumerate(labels.synsets):
            vectors[row] = self._vector(self.taxonomy.index(synset), directions)
        return EmbeddedLabels(vectors, tuple(Origin("taxonomy", synset) for synset in labels.synsets))

    def find(self, label: str, synset: str) -> Origin | None:
        return Origin("taxonomy", self.taxonomy.name(synset))

    def _vector(self, index: int, directions: dict[int, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the unit vector of one synset, float64 [512]; `directions` keeps what was already drawn."""
        vector = np.zeros(DIMENSION)
        for ancestor in self.taxonomy.ancestors(index):
            if ancestor not in directions:
                weight = math.sqrt(_information_content(self.taxonomy, ancestor))
                directions[ancestor] = weight * _signs(int(self.taxonomy.offsets[ancestor]))
            vector += directions[ancestor]
        return vector / float(np.linalg.norm(vector))


def _information_content(taxonomy: Taxonomy, index: int) -> float:
    return 1 - math.log(1 + int(taxonomy.hyponym_counts[index])) / math.log(1 + len(taxonomy))


def _signs(offset: int) -> NDArray[np.float64]:
    """Return the direction of a synset, ±1 [512]: bits of a counter-based generator keyed by its offset.

    numpy promises the stream of Philox's raw words for good, which it does not for its normal deviates.
    """
    words = np.random.Philox(key=offset).random_raw(DIMENSION // 64).astype("<u8")
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    return 2 * bits.astype(np.float64) - 1
