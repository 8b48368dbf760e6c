"""Embeddings from text files: exact look-ups, documented fallbacks, and never a random vector."""

import gzip
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from mlzsl.cli.errors import UsageError
from mlzsl.graph.embeddings import text
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.embeddings.source import EmbeddedLabels, Origin
from mlzsl.graph.embeddings.text import read_vectors
from mlzsl.graph.labels.linking import UnlinkedLabelError
from mlzsl.graph.labels.sets import NAMED_SETS, LabelSet, load_label_set

WriteVectors = Callable[..., Path]


@pytest.fixture
def vectors(tmp_path: Path) -> WriteVectors:
    def write(words: Mapping[str, Sequence[float]], header: str = "", name: str = "vectors.txt") -> Path:
        path = tmp_path / name
        lines = [f"{word} {' '.join(map(str, numbers))}\n" for word, numbers in words.items()]
        path.write_text(header + "".join(lines), encoding="utf-8")
        return path

    return write


def embed(path: Path, *pairs: tuple[str, str]) -> EmbeddedLabels:
    labels = LabelSet("test", tuple(label for label, _ in pairs), tuple(synset for _, synset in pairs))
    return open_embeddings(str(path)).embed(labels, "target")


def test_the_whole_name_is_preferred_to_its_words(vectors: WriteVectors) -> None:
    path = vectors({"traffic_light": (1, 2), "traffic": (5, 5), "light": (7, 9), "dog": (3, 4)})
    found = embed(path, ("traffic light", "traffic_light.n.01"), ("Dog", "dog.n.01"))
    assert found.vectors.tolist() == [[1, 2], [3, 4]]
    assert found.vectors.dtype == np.float32
    assert found.origins == (Origin("name", "traffic_light"), Origin("name", "dog"))


def test_names_are_found_in_any_unicode_form_case_and_with_any_hyphens(vectors: WriteVectors) -> None:
    path = vectors({"cafe\u0301": (1, 2), "\u00c9clair": (3, 4), "hot_air_balloon": (5, 6), "t-shirt": (7, 8)})
    found = embed(
        path,
        ("Caf\u00e9", "cafe.n.01"),
        ("e\u0301clair", "eclair.n.01"),
        ("hot-air balloon", "hot-air_balloon.n.01"),
        ("T Shirt", "jersey.n.03"),
    )
    assert found.vectors.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert {origin.how for origin in found.origins} == {"name"}


def test_the_vector_of_several_words_is_their_average(vectors: WriteVectors) -> None:
    path = vectors(
        {"traffic": (5, 5), "light": (7, 9), "jack": (1, 1), "o'": (2, 2), "lantern": (3, 6), "potter": (4, 4)}
    )
    found = embed(
        path,
        ("traffic light", "traffic_light.n.01"),
        ("jack-o'-lantern", "jack-o'-lantern.n.02"),
        ("potter's", "pot.n.01"),
    )
    assert found.vectors.tolist() == [[6, 7], [2, 3], [4, 4]]
    assert found.origins[0] == Origin("words", "traffic + light")


def test_fallbacks_are_the_first_synonym_then_the_nearest_hypernym(vectors: WriteVectors) -> None:
    path = vectors({"lounge": (1, 0), "seat": (0, 1), "canine": (2, 2), "animal": (3, 3)})
    found = embed(path, ("sofa", "sofa.n.01"), ("dog", "dog.n.01"))
    assert found.vectors.tolist() == [[1, 0], [2, 2]]
    assert found.origins == (Origin("synonym", "lounge"), Origin("hypernym", "canine"))
    assert [origin.is_fallback for origin in found.origins] == [True, True]


def test_a_name_needs_all_of_its_words(vectors: WriteVectors) -> None:
    path = vectors({"parking": (1, 0), "timer": (0, 1)})
    assert embed(path, ("parking meter", "parking_meter.n.01")).origins == (Origin("hypernym", "timer"),)


def test_labels_without_any_vector_are_named_in_one_sentence(vectors: WriteVectors) -> None:
    with pytest.raises(UnlinkedLabelError, match=r"target label\(s\) dog, sofa, nor for their synonyms"):
        embed(vectors({"xyz": (1, 2)}), ("dog", "dog.n.01"), ("sofa", "sofa.n.01"))


def test_lower_case_is_preferred_then_the_first_spelling(vectors: WriteVectors) -> None:
    path = vectors({"DOG": (9, 9), "dog": (1, 2), "Cat": (3, 4), "CAT": (5, 6)})
    found = embed(path, ("dog", "dog.n.01"), ("cat", "cat.n.01"))
    assert found.vectors.tolist() == [[1, 2], [3, 4]]


def test_any_dimension_with_or_without_a_header(vectors: WriteVectors) -> None:
    for dimension, header in ((2, ""), (50, ""), (300, "2 300\n")):
        path = vectors({"dog": range(dimension), "cat": range(dimension)}, header)
        embeddings = open_embeddings(str(path))
        assert embeddings.source.dimension == dimension
        assert embeddings.source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (embeddings.source.name, embeddings.source.path) == ("vectors.txt", str(path))


def test_words_with_spaces_as_in_gloves_largest_file(vectors: WriteVectors) -> None:
    path = vectors({"dog": (1, 2), ". . .": (3, 4), "at name@domain.com": (5, 6), "cat": (7, 8)})
    assert embed(path, ("cat", "cat.n.01")).vectors.tolist() == [[7, 8]]


@pytest.mark.parametrize("blank", ["", " ", "\xa0"])
def test_a_word_may_be_blank_as_in_fasttexts_files(vectors: WriteVectors, blank: str) -> None:
    path = vectors({"dog": (1, 2, 3), blank: (5, 5, 5), "cat": (4, 5, 6)}, header="3 3\n")
    assert embed(path, ("dog", "dog.n.01"), ("cat", "cat.n.01")).vectors.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_files_as_they_are_published(vectors: WriteVectors, tmp_path: Path) -> None:
    pairs = (("hot dog", "hot_dog.n.02"), ("cat", "cat.n.01"))
    path = vectors({"/c/en/hot_dog": (1, 2), "/c/en/cat": (3, 4), "/c/de/hund": (5, 6)}, header="\ufeff3 2\n")
    expected = [[1, 2], [3, 4]]
    assert embed(path, *pairs).vectors.tolist() == expected
    (tmp_path / "tabs.txt").write_text(path.read_text().replace(" ", "\t").replace("hot\tdog", "hot_dog"))
    assert embed(tmp_path / "tabs.txt", *pairs).vectors.tolist() == expected
    (tmp_path / "packed.vec.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert embed(tmp_path / "packed.vec.gz", *pairs).vectors.tolist() == expected
    (tmp_path / "cut.vec.gz").write_bytes(gzip.compress(path.read_bytes())[:-9])
    with pytest.raises(UsageError, match=r"cut\.vec\.gz: cannot be read"):
        embed(tmp_path / "cut.vec.gz", *pairs)


def test_the_file_is_read_once_for_all_sets(vectors: WriteVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = []
    monkeypatch.setattr("mlzsl.graph.embeddings.text.read_vectors", lambda *a: readings.append(a) or read_vectors(*a))
    embeddings = open_embeddings(str(vectors({"entity": (1, 2)})))
    coco, voc = load_label_set("coco80"), load_label_set("voc20")
    embeddings.preload(coco, voc)
    embeddings.embed(coco, "target")
    embeddings.embed(voc, "external")
    assert embeddings.source.dimension == 2
    assert len(readings) == 1


def test_only_wanted_words_are_kept(vectors: WriteVectors) -> None:
    found = read_vectors(vectors({f"word{i}": (i, i + 1) for i in range(1000)}), {"word7", "absent"})
    assert list(found.vectors) == ["word7"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"dog 1 2 3\ncat 1 2\n", r"line 2: 'cat 1 2' has 2 numbers where the first line has 3"),
        (b"dog 1 2 3\ncat 1 2 3 4\n", r"line 2: 'cat 1 2 3 4' has 4 numbers where the first line has 3"),
        (b"dog 1 2 3\n\ncat 1 2 3\n", r"line 2: '' has 0 numbers"),
        (b"cow 1 2 3\ndog 1 2 x\n", r"line 2: 'dog 1 2 x' has a value that is not a finite number"),
        (b"cow 1 2 3\ndog 1 nan 3\n", r"line 2: 'dog 1 nan 3' has a value that is not a finite number"),
        (b"cow 1 2 3\ndog 1 1e99 3\n", r"line 2: 'dog 1 1e99 3' has a value that is not a finite number"),
        (b"", r"has no word vectors"),
        ("dog 1 2 3\n".encode("utf-16"), r"is in UTF-16 by its byte-order mark; save the file as UTF-8"),
        (b"3 300\n", r"has no word vectors"),
        (b"just some prose\n", r"line 1: 'just some prose' is not a word and its numbers"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", r"line 1: .* is not a word and its numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_damaged_vector_file_is_one_sentence_with_its_line(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "broken.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=sentence) as error:
        embed(path, ("dog", "dog.n.01"), ("cat", "cat.n.01"))
    assert str(error.value).startswith(str(path))


def test_an_endless_line_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MAX_LINE", 1000)
    path = tmp_path / "endless.txt"
    path.write_bytes(b"dog " + b"1 " * 10_000)
    with pytest.raises(UsageError, match=r"line 1: is over 1,000 bytes long"):
        embed(path, ("dog", "dog.n.01"))


def test_a_missing_vector_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"nowhere\.txt: no such file; name a file of vectors, or minilm, taxonomy, sentence"
    ):
        open_embeddings(str(tmp_path / "nowhere.txt"))


@pytest.mark.kit
def test_the_kits_vectors_cover_the_named_sets(kit: Path) -> None:
    minilm = open_embeddings(str(kit / "minilm.384d.labels.txt"))
    for name in NAMED_SETS:
        origins = minilm.embed(load_label_set(name), "target").origins
        assert {origin.how for origin in origins} <= {"name", "words"}
        assert sum(origin.how == "words" for origin in origins) <= 2  # "crane bird", "maillot tank suit"
    coco = load_label_set("coco80")
    origins = open_embeddings(str(kit / "glove.300d.subset.txt")).embed(coco, "target").origins
    assert [label for label, o in zip(coco.labels, origins, strict=True) if o.is_fallback] == ["parking meter"]
