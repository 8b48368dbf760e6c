"""Label embeddings computed from the WordNet hierarchy alone: the default, which needs no file.

Every synset a has a fixed direction r(a), 512 pseudo-random signs. The vector of a label is the weighted sum over its
synset's hypernyms (itself included), scaled to unit length:

    v(s) ∝ Σ_{a ∈ hypernyms(s)} √IC(a) · r(a),    IC(a) = 1 − ln(1 + hyponyms(a)) / ln(1 + number of synsets)

Directions are nearly orthogonal, so the cosine of two labels is nearly the share of information content in their
common hypernyms (IC: Seco, Veale and Hayes 2004): near 1 for similar kinds, near 0 for unrelated ones.
A vector depends on its synset only, so vectors of seen and unseen labels are comparable.
"""

import functools
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.graph.embeddings.source import TAXONOMY, EmbeddedLabels, EmbeddingSource, Origin, Role
from mlzsl.graph.labels.sets import LabelSet, require_synsets
from mlzsl.graph.taxonomy import Taxonomy

DIMENSION = 512
METHOD = b"taxonomy embeddings 1: sqrt(IC) x 512 Philox signs"  # change it whenever the vectors change


@dataclass(frozen=True)
class TaxonomyEmbeddings:
    """Vectors for every noun synset of WordNet 3.0."""

    taxonomy: Taxonomy = field(default_factory=Taxonomy.shipped)

    @property
    def source(self) -> EmbeddingSource:
        sha256 = sha256_of_bytes(METHOD, self.taxonomy.sha256.encode())
        return EmbeddingSource(TAXONOMY, DIMENSION, sha256, path=None)

    def preload(self, *label_sets: LabelSet) -> None:
        """Nothing to load: vectors are computed."""

    def embed(self, labels: LabelSet, role: Role) -> EmbeddedLabels:
        """The vectors of all labels, unit length, float32 [n, 512].

        Raises:
            UsageError: labels without a synset.
        """
        synsets = require_synsets(labels, f"--embeddings {TAXONOMY}")
        vectors = np.empty((len(labels), DIMENSION), np.float32)
        direction = functools.cache(self._weighted_direction)
        for row, synset in enumerate(synsets):
            vector = sum(map(direction, self.taxonomy.ancestors(self.taxonomy.index(synset))), np.zeros(DIMENSION))
            vectors[row] = vector / float(np.linalg.norm(vector))
        return EmbeddedLabels(vectors, tuple(Origin("taxonomy", synset) for synset in synsets))

    def find(self, label: str, synset: str | None) -> Origin | None:
        return Origin("taxonomy", self.taxonomy.name(synset)) if synset else None

    def _weighted_direction(self, index: int) -> NDArray[np.float64]:
        """√IC(a) r(a) of one synset, float64 [512]."""
        hyponyms, synsets = int(self.taxonomy.hyponym_counts[index]), len(self.taxonomy)
        information_content = 1 - math.log(1 + hyponyms) / math.log(1 + synsets)
        return math.sqrt(information_content) * _signs(int(self.taxonomy.offsets[index]))


def _signs(offset: int) -> NDArray[np.float64]:
    """The direction of a synset, ±1 [512]: bits of a counter-based generator keyed by its offset.

    numpy guarantees the stream of Philox's raw words across versions, unlike that of its normal deviates.
    """
    words = np.random.Philox(key=offset).random_raw(DIMENSION // 64).astype("<u8")
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    return 2 * bits.astype(np.float64) - 1
