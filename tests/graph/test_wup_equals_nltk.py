"""WUP similarity equals nltk's bit for bit, at any size."""

import random
import tracemalloc

import numpy as np
import pytest
from nltk.corpus.reader.wordnet import WordNetCorpusReader

from mlzsl.graph import wup
from mlzsl.graph.labels.sets import load_label_set
from mlzsl.graph.taxonomy import Taxonomy, UnknownSynsetError
from mlzsl.graph.wup import wup_adjacency, wup_similarity


def assert_equals_nltk(taxonomy: Taxonomy, wordnet: WordNetCorpusReader, pairs: list[tuple[str, str]]) -> None:
    a, b = sorted({left for left, _ in pairs}), sorted({right for _, right in pairs})
    rows, columns = {s: i for i, s in enumerate(a)}, {s: i for i, s in enumerate(b)}
    ours = wup_similarity(taxonomy, a, b)
    nodes = {synset: wordnet.synset(synset) for synset in {*a, *b}}
    different = [
        (left, right)
        for left, right in pairs
        if nodes[left].wup_similarity(nodes[right]) != ours[rows[left], columns[right]]
    ]
    assert different == []


def test_equals_nltk_on_every_pair_of_coco80_and_nuswide81(
    taxonomy: Taxonomy, nltk_wordnet: WordNetCorpusReader
) -> None:
    synsets = sorted({s for name in ("coco80", "nuswide81") for s in load_label_set(name).synsets})
    assert_equals_nltk(taxonomy, nltk_wordnet, [(a, b) for a in synsets for b in synsets])


def test_equals_nltk_on_random_pairs_of_all_named_sets(
    taxonomy: Taxonomy, nltk_wordnet: WordNetCorpusReader, named_synsets: tuple[str, ...]
) -> None:
    chance = random.Random(1)
    pairs = [(chance.choice(named_synsets), chance.choice(named_synsets)) for _ in range(12_000)]
    assert_equals_nltk(taxonomy, nltk_wordnet, pairs)


def test_equals_nltk_on_random_nouns(
    taxonomy: Taxonomy, nltk_wordnet: WordNetCorpusReader, random_nouns: tuple[str, ...]
) -> None:
    chance = random.Random(2)
    pairs = [(chance.choice(random_nouns), chance.choice(random_nouns)) for _ in range(8_000)]
    assert_equals_nltk(taxonomy, nltk_wordnet, pairs)


def test_equals_nltk_between_nouns_and_their_own_hypernyms_where_ties_are_broken_by_order(
    taxonomy: Taxonomy, nltk_wordnet: WordNetCorpusReader, random_nouns: tuple[str, ...]
) -> None:
    pairs = []
    for noun in random_nouns:
        for ancestor in taxonomy.ancestors(taxonomy.index(noun)):
            pairs += [(noun, taxonomy.names[ancestor]), (taxonomy.names[ancestor], noun)]
    assert_equals_nltk(taxonomy, nltk_wordnet, pairs)
    forth_and_back = np.array([wup_similarity(taxonomy, [a], [b])[0, 0] for a, b in pairs[:2000]]).reshape(-1, 2)
    assert (forth_and_back[:, 0] == forth_and_back[:, 1]).mean() > 0.9


def test_a_noun_with_a_deeper_hypernym_has_a_self_similarity_below_one_as_in_nltk(
    taxonomy: Taxonomy, nltk_wordnet: WordNetCorpusReader, named_synsets: tuple[str, ...]
) -> None:
    itself = np.diag(wup_similarity(taxonomy, named_synsets))
    odd = [synset for synset, value in zip(named_synsets, itself, strict=True) if value < 1]
    assert odd
    for synset in odd:
        node = nltk_wordnet.synset(synset)
        assert node.wup_similarity(node) == itself[named_synsets.index(synset)]


def test_similarities_do_not_depend_on_the_block_size(
    taxonomy: Taxonomy, random_nouns: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = wup_similarity(taxonomy, random_nouns)
    monkeypatch.setattr(wup, "PAIRS_AT_ONCE", 1000)  # two rows
    assert np.array_equal(wup_similarity(taxonomy, random_nouns), at_once)
    assert np.array_equal(wup_similarity(taxonomy, random_nouns[:3], random_nouns[5:9]), at_once[:3, 5:9])


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9])
def test_adjacency_is_similarity_above_the_threshold(
    taxonomy: Taxonomy, random_nouns: tuple[str, ...], threshold: float
) -> None:
    adjacency = wup_adjacency(taxonomy, random_nouns, threshold)
    assert adjacency.dtype == np.bool_
    assert np.array_equal(adjacency, wup_similarity(taxonomy, random_nouns) > threshold)


def test_adjacency_needs_no_memory_for_the_similarities(taxonomy: Taxonomy, monkeypatch: pytest.MonkeyPatch) -> None:
    nouns = random.Random(3).sample(taxonomy.names, 2500)
    wup_adjacency(taxonomy, nouns[:10], 0.5)  # what the taxonomy keeps is not counted
    monkeypatch.setattr(wup, "PAIRS_AT_ONCE", 2**16)
    tracemalloc.start()
    wup_adjacency(taxonomy, nouns, 0.5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(nouns) ** 2  # one byte a pair and the ancestors; float64 alone would be eight


def test_empty_lists_and_unknown_synsets(taxonomy: Taxonomy) -> None:
    assert wup_similarity(taxonomy, []).shape == (0, 0)
    assert wup_similarity(taxonomy, ["dog.n.01"], []).shape == (1, 0)
    with pytest.raises(UnknownSynsetError, match=r"dog\.n\.99"):
        wup_similarity(taxonomy, ["dog.n.99"])
