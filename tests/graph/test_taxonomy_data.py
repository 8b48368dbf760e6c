"""The shipped taxonomy equals WordNet as nltk reads it."""

import lzma
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from wordnet_format import write_wordnet

from mlzsl.graph.taxonomy import DATA, Taxonomy, UnknownSynsetError

TOOL = Path(__file__).resolve().parents[2] / "tools" / "build_taxonomy.py"
TEXTS = ("lemmas.txt.xz", "glosses.txt.xz", "plurals.txt.xz")


def test_the_taxonomy_has_all_noun_synsets_of_wordnet_under_one_root(taxonomy: Taxonomy) -> None:
    assert len(taxonomy) == len(set(taxonomy.names)) == 82_115
    assert [taxonomy.names[index] for index in np.flatnonzero(taxonomy.min_depths == 0)] == ["entity.n.01"]


def test_synsets_equal_nltks(
    taxonomy: Taxonomy, nltk_wordnet: WordNetCorpusReader, random_nouns: tuple[str, ...]
) -> None:
    for name in random_nouns:
        synset, index = nltk_wordnet.synset(name), taxonomy.index(name)
        hypernyms = synset.hypernyms() + synset.instance_hypernyms()
        assert synset.name() == name
        assert taxonomy.wnid(name) == f"n{synset.offset():08d}"
        assert taxonomy.lemmas(index) == synset.lemma_names()
        assert {taxonomy.names[parent] for parent in taxonomy.parents(index)} == {h.name() for h in hypernyms}
        assert taxonomy.min_depths[index] == synset.min_depth()
        assert taxonomy.max_depths[index] == synset.max_depth()
        assert taxonomy.gloss(name) == synset.definition()


def test_ancestors_are_sorted_by_the_fewest_steps(taxonomy: Taxonomy) -> None:
    for name in ("dog.n.01", "person.n.01", "keyboard.n.01"):
        steps = taxonomy.ancestors(taxonomy.index(name))
        assert list(steps.values()) == sorted(steps.values())
        assert steps[taxonomy.index("entity.n.01")] == taxonomy.min_depths[taxonomy.index(name)]


def test_hyponyms_are_counted_once_each(taxonomy: Taxonomy) -> None:
    carnivores = taxonomy.index("carnivore.n.01")
    below = sum(carnivores in taxonomy.ancestors(index) for index in range(len(taxonomy))) - 1
    assert taxonomy.hyponym_counts[carnivores] == below
    assert taxonomy.hyponym_counts[taxonomy.index("entity.n.01")] == len(taxonomy) - 1


@pytest.mark.parametrize("name", ["dog.n.01", "n02084071", "domestic_dog.n.01", "Canis_familiaris.n.1"])
def test_a_synset_is_found_by_name_wnid_or_any_lemma(taxonomy: Taxonomy, name: str) -> None:
    assert taxonomy.name(name) == "dog.n.01"


@pytest.mark.parametrize("name", ["", "dog", "dog.n.00", "dog.n.08", "dog.v.01", "n00000001", "n2084071", ".n.01"])
def test_an_unknown_synset_is_one_sentence(taxonomy: Taxonomy, name: str) -> None:
    with pytest.raises(UnknownSynsetError, match=r"not a noun synset of WordNet 3\.0; .*\.$"):
        taxonomy.index(name)


def test_an_unknown_synset_suggests_similar_ones(taxonomy: Taxonomy) -> None:
    with pytest.raises(UnknownSynsetError, match=r"umbrella\.n\.01"):
        taxonomy.index("umbrela.n.01")
    with pytest.raises(UnknownSynsetError, match=r"dog\.n\.01, frump\.n\.01"):
        taxonomy.index("dog.n.42")


def test_senses_ignore_case_and_spaces(taxonomy: Taxonomy) -> None:
    assert taxonomy.senses("Traffic Light") == taxonomy.senses("traffic_light") == ("traffic_light.n.01",)
    assert taxonomy.senses("no such word") == ()


def test_the_tool_rebuilds_the_shipped_data(taxonomy: Taxonomy, tmp_path: Path) -> None:
    # MLZSL_WORDNET names a real WordNet folder; without one, the shipped data in WordNet's format is used.
    wordnet = os.environ.get("MLZSL_WORDNET")
    if not wordnet:
        write_wordnet(taxonomy, tmp_path / "wordnet")
    command = [sys.executable, TOOL, "--wordnet", wordnet or tmp_path / "wordnet", "--out", tmp_path / "data"]
    subprocess.run(command, check=True, capture_output=True)
    for name in TEXTS:  # compressors may differ in bytes, never in content
        assert lzma.decompress((tmp_path / "data" / name).read_bytes()) == lzma.decompress((DATA / name).read_bytes())
    with np.load(tmp_path / "data" / "hierarchy.npz") as made, np.load(DATA / "hierarchy.npz") as shipped:
        assert set(made) == set(shipped)
        for array in shipped:
            assert made[array].dtype == shipped[array].dtype
            assert np.array_equal(made[array], shipped[array])


def test_the_tool_reports_a_missing_wordnet(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, TOOL, "--wordnet", tmp_path, "--out", tmp_path / "data"], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "no readable WordNet 3.0" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_licence_is_shipped() -> None:
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in (DATA / "LICENSE.wordnet").read_text()
