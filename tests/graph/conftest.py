"""nltk as the reference: it reads the shipped taxonomy, written in WordNet's own format."""

import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import nltk
import pytest
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from wordnet_format import write_wordnet

from mlzsl.graph.labels.sets import NAMED_SETS, load_label_set
from mlzsl.graph.taxonomy import Taxonomy


@pytest.fixture(scope="session")
def taxonomy() -> Taxonomy:
    return Taxonomy.shipped()


@pytest.fixture(scope="session")
def named_synsets() -> tuple[str, ...]:
    """Every synset of the four named label sets."""
    return tuple(sorted({synset for name in NAMED_SETS for synset in load_label_set(name).synsets}))


@pytest.fixture(scope="session")
def random_nouns(taxonomy: Taxonomy) -> tuple[str, ...]:
    """Two hundred nouns from anywhere, and as many that have several hypernyms, where ties happen."""
    chance = random.Random(7)
    branching = [name for index, name in enumerate(taxonomy.names) if len(taxonomy.parents(index)) > 1]
    return (*chance.sample(taxonomy.names, 200), *chance.sample(branching, 200))


@pytest.fixture(scope="session")
def nltk_wordnet(
    taxonomy: Taxonomy,
    named_synsets: tuple[str, ...],
    random_nouns: tuple[str, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[WordNetCorpusReader]:
    """nltk's WordNet reader over the named label sets, the random nouns, and everything above them."""
    folder = tmp_path_factory.mktemp("nltk_data")
    corpus = folder / "corpora" / "wordnet"
    write_wordnet(taxonomy, corpus, (*named_synsets, *random_nouns))
    nltk.data.path.append(str(folder))  # nltk opens nothing outside its data folders
    yield _open(corpus)
    nltk.data.path.remove(str(folder))


def _open(corpus: Path) -> WordNetCorpusReader:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are no other languages
        reader = WordNetCorpusReader(str(corpus), None)
    # It reads the version from disk for every similarity, only to tell WordNet 1.6 from the others.
    reader.get_version = lambda: "3.0"
    return reader
