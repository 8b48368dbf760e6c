"""Taxonomy embeddings: computed from the hierarchy alone, reproducible, similar for similar kinds."""

import math

import numpy as np
import pytest

from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.embeddings.taxonomy import DIMENSION
from mlzsl.graph.labels.sets import LabelSet, load_label_set
from mlzsl.graph.taxonomy import Taxonomy


def vectors(*synsets: str) -> np.ndarray:
    return open_embeddings("taxonomy").embed(LabelSet("test", synsets, synsets), "target").vectors


def cosine(a: str, b: str) -> float:
    first, second = vectors(a, b)
    return float(first @ second)


def test_every_noun_has_a_unit_vector(taxonomy: Taxonomy) -> None:
    some = vectors(*taxonomy.names[::500], "entity.n.01")
    assert some.shape[1] == DIMENSION
    assert some.dtype == np.float32
    assert np.allclose(np.linalg.norm(some, axis=1), 1, atol=1e-6)


def test_a_vector_depends_only_on_its_synset() -> None:
    together = vectors("dog.n.01", "cat.n.01", "sofa.n.01")
    assert np.array_equal(together[2], vectors("sofa.n.01")[0])
    assert np.array_equal(vectors("sofa.n.01", "dog.n.01")[1], together[0])


@pytest.mark.parametrize(
    ("near", "far"),
    [
        (("sheep.n.01", "ram.n.05"), ("sheep.n.01", "sofa.n.01")),
        (("boat.n.01", "canoe.n.01"), ("boat.n.01", "boot.n.01")),
        (("bird.n.01", "robin.n.02"), ("bird.n.01", "airplane.n.01")),
        (("chair.n.01", "rocking_chair.n.01"), ("chair.n.01", "broccoli.n.02")),
    ],
)
def test_similar_kinds_have_similar_vectors(near: tuple[str, str], far: tuple[str, str]) -> None:
    assert cosine(*near) > 0.6
    assert cosine(*far) < cosine(*near) - 0.3


def test_cosines_approximate_the_shared_information_content(taxonomy: Taxonomy) -> None:
    synsets = load_label_set("coco80").synsets
    ancestors = [set(taxonomy.ancestors(taxonomy.index(synset))) for synset in synsets]

    def information(indices: set[int]) -> float:
        return sum(1 - math.log(1 + taxonomy.hyponym_counts[p]) / math.log(1 + len(taxonomy)) for p in indices)

    expected = [[information(a & b) / math.sqrt(information(a) * information(b)) for b in ancestors] for a in ancestors]
    ours = vectors(*synsets)
    difference = ours.astype(np.float64) @ ours.T - expected
    assert np.abs(difference).mean() < 2 / math.sqrt(DIMENSION)


def test_the_source_has_a_stable_hash() -> None:
    source = open_embeddings("taxonomy").source
    assert (source.name, source.dimension, source.path) == ("taxonomy", DIMENSION, None)
    assert len(source.sha256) == 64
    assert source == open_embeddings("taxonomy").source
