"""Label sets: the named ones are complete and linked by hand, and errors in text files name their line."""

import contextlib
import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.corpus.reader.wordnet import WordNetCorpusReader

from mlzsl.cli.errors import UsageError
from mlzsl.cli.text import label_key
from mlzsl.graph.labels import sets
from mlzsl.graph.labels.linking import UnlinkedLabelError, link_label, singular_names
from mlzsl.graph.labels.sets import NAMED_SETS, UNSEEN, LabelSet, known_names, load_label_set, require_synsets
from mlzsl.graph.taxonomy import Taxonomy

WriteLabels = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteLabels:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "labels.txt"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.mark.parametrize(("name", "count"), [("coco80", 80), ("nuswide81", 81), ("voc20", 20), ("imagenet1k", 1000)])
def test_named_sets_are_complete_with_one_synset_per_label(taxonomy: Taxonomy, name: str, count: int) -> None:
    labels = load_label_set(name)
    assert len(labels) == len(set(labels.labels)) == len(set(labels.synsets)) == count
    assert [taxonomy.name(synset) for synset in labels.synsets] == list(labels.synsets)


def test_imagenet1k_is_in_torchvisions_order(taxonomy: Taxonomy) -> None:
    labels = load_label_set("imagenet1k")
    wnids = [taxonomy.wnid(synset) for synset in labels.synsets]
    assert wnids == sorted(wnids)  # that order is the sorted order of ImageNet's folders
    meta = pytest.importorskip("torchvision.models._meta")
    assert list(labels.labels) == meta._IMAGENET_CATEGORIES


@pytest.mark.parametrize("name", sorted(UNSEEN))
def test_the_papers_sixteen_unseen_classes_are_labels_of_their_set(name: str) -> None:
    assert len(set(UNSEEN[name])) == 16
    assert set(UNSEEN[name]) <= set(load_label_set(name).labels)


def test_a_name_has_the_same_synset_in_every_hand_linked_set() -> None:
    known = known_names()
    for name in ("coco80", "nuswide81", "voc20"):
        labels = load_label_set(name)
        assert [known[label_key(label)] for label in labels.labels] == list(labels.synsets)


@pytest.mark.kit
def test_named_sets_have_the_labels_of_the_kits_lists(kit: Path) -> None:
    coco = json.loads((kit / "classes" / "coco80.json").read_text())
    voc = json.loads((kit / "classes" / "voc20.json").read_text())
    nuswide = (kit / "classes" / "NUS_Concepts81.txt").read_text().split()
    imagenet = json.loads((kit / "classes" / "imagenet_class_index.json").read_text())
    assert list(load_label_set("coco80").labels) == coco
    assert list(load_label_set("voc20").labels) == voc
    assert list(load_label_set("nuswide81").labels) == nuswide
    wnids = [Taxonomy.shipped().wnid(synset) for synset in load_label_set("imagenet1k").synsets]
    assert wnids == [imagenet[str(index)][0] for index in range(1000)]


@pytest.mark.parametrize(
    ("label", "synset", "rule"),
    [
        ("tiger", "tiger.n.02", "known name"),  # WordNet's first sense is an audacious person
        ("Hot Dog", "hotdog.n.02", "known name"),
        ("lighthouse", "beacon.n.03", "first sense"),
        ("fire engine", "fire_engine.n.01", "first sense"),
        ("T-shirt", "jersey.n.03", "first sense"),
        ("tea pot", "teapot.n.01", "first sense"),
        ("wolves", "wolf.n.01", "singular"),
        ("geese", "goose.n.01", "singular"),
        ("fire engines", "fire_engine.n.01", "singular"),
        ("snowmen", "snowman.n.01", "singular"),
        ("glasses", "spectacles.n.01", "first sense"),  # a word of its own before it is a plural
        ("men", "man.n.01", "plural"),  # its own only sense is the workforce
        ("pants", "trouser.n.01", "plural"),
        ("Shoes", "shoe.n.01", "plural"),
        ("cola", "cola.n.02", "first sense"),  # not colons
        ("gas", "gas.n.01", "first sense"),
        ("hot dogs", "hotdog.n.02", "known name"),
        ("passers-by", "passerby.n.01", "singular"),
        ("Cat", "cat.n.01", "known name"),
        ("china", "china.n.02", "first sense"),  # porcelain: common nouns before proper names
        ("China", "china.n.01", "first sense"),
        ("Turkey", "turkey.n.01", "first sense"),  # the bird: lists may capitalize every label
        ("polish", "polish.n.01", "first sense"),
        ("scorpion", "scorpion.n.03", "first sense"),
        ("hot air balloon", "hot-air_balloon.n.01", "first sense"),
        ("Hot_Air-Balloon", "hot-air_balloon.n.01", "first sense"),
        ("artists loft", "artist's_loft.n.01", "first sense"),
        ("cafe\u0301", "cafe.n.01", "first sense"),
        ("caf\u00e9", "cafe.n.01", "first sense"),
    ],
)
def test_labels_are_linked_by_the_documented_rules(taxonomy: Taxonomy, label: str, synset: str, rule: str) -> None:
    linked = link_label(taxonomy, label, known=known_names())
    assert (linked.synset, linked.rule) == (synset, rule)


@pytest.mark.parametrize(
    ("label", "others"),
    [
        ("men", {"work_force.n.01", "serviceman.n.01"}),
        ("pants", {"bloomers.n.01", "pant.n.01"}),
        ("glasses", {"glass.n.01", "glass.n.02"}),
        ("arms", {"weaponry.n.01", "coat_of_arms.n.01"}),
        ("polish", {"polish.n.04"}),
        ("Polish", {"polish.n.04"}),
        ("china", {"china.n.01"}),
        ("turkey", {"turkey.n.02"}),
    ],
)
def test_the_other_candidates_of_a_name_are_its_alternatives(taxonomy: Taxonomy, label: str, others: set[str]) -> None:
    linked = link_label(taxonomy, label, known=known_names())
    assert others <= set(linked.alternatives)
    assert linked.synset not in linked.alternatives
    assert linked.is_ambiguous


@pytest.mark.parametrize(
    ("content", "synsets"),
    [
        ("china\ncrane\n", ("china.n.02", "crane.n.04")),
        ("dog\nChina\nCrane\n", ("dog.n.01", "china.n.01", "crane.n.01")),
        ("Dog\nCHINA\nCrane\n", ("dog.n.01", "china.n.02", "crane.n.04")),
    ],
)
def test_capitals_mean_proper_names_only_among_labels_in_lower_case(
    write: WriteLabels, content: str, synsets: tuple[str, ...]
) -> None:
    assert load_label_set(write(content)).synsets == synsets


@pytest.mark.parametrize(("label", "ambiguous"), [("cat", False), ("cats", False), ("mouse", True), ("mice", True)])
def test_a_name_linked_by_hand_is_ambiguous_if_another_sense_comes_first(
    taxonomy: Taxonomy, label: str, ambiguous: bool
) -> None:
    linked = link_label(taxonomy, label, known=known_names())
    assert (linked.rule, linked.is_ambiguous) == ("known name", ambiguous)


def test_every_plural_that_is_a_word_of_its_own_has_the_senses_of_its_singular_too(taxonomy: Taxonomy) -> None:
    plurals = [lemma for lemma in taxonomy.senses_of_lemmas if re.fullmatch(r".{2,}[^s]s", lemma)]
    checked = 0
    for lemma in plurals[::7]:
        singular = taxonomy.common_senses(lemma.removesuffix("s"))
        if not singular:
            continue
        checked += 1
        linked = link_label(taxonomy, lemma)
        assert {*singular, *taxonomy.senses(lemma)} <= {linked.synset, *linked.alternatives}
    assert checked > 30


def test_the_plurals_chosen_by_hand_take_one_of_their_candidates(taxonomy: Taxonomy) -> None:
    for plural, synset in taxonomy.plurals_by_hand.items():
        linked = link_label(taxonomy, plural)
        assert (linked.rule, linked.synset) == ("plural", synset)
        singulars = {sense for name in singular_names(taxonomy, plural) for sense in taxonomy.senses(name)}
        assert synset in singulars | set(taxonomy.senses(plural))


def test_singulars_equal_nltks(taxonomy: Taxonomy, nltk_wordnet: WordNetCorpusReader) -> None:
    for plural in ("castles", "zebras", "buses", "knives", "mice", "foxes", "wolves", "benches", "women"):
        assert link_label(taxonomy, plural).synset == taxonomy.senses(nltk_wordnet.morphy(plural, "n"))[0]


@pytest.mark.parametrize(
    ("label", "candidate"),
    [("umbrela", "umbrella.n.01"), ("flying squirl", "squirrel"), ("pink bicycle", "bicycle.n.01")],
)
def test_an_unlinked_label_suggests_similar_synsets(taxonomy: Taxonomy, label: str, candidate: str) -> None:
    with pytest.raises(UnlinkedLabelError) as error:
        link_label(taxonomy, label)
    assert repr(label) in str(error.value)
    assert candidate in str(error.value)


def test_a_text_file_of_labels(write: WriteLabels, taxonomy: Taxonomy) -> None:
    path = write("\ufeffdog\r\ncrane\tn02012849\r\nkeyboard\tcomputer_keyboard.n.01\r\nhot  dog\r\n")
    labels = load_label_set(path)
    assert labels == LabelSet(
        str(path),
        ("dog", "crane", "keyboard", "hot dog"),
        ("dog.n.01", "crane.n.05", "computer_keyboard.n.01", "hotdog.n.02"),
    )


def test_coco80_as_a_text_file_has_the_synsets_of_coco80(write: WriteLabels) -> None:
    coco = load_label_set("coco80")
    again = load_label_set(write("\n".join(coco.labels)))
    assert again.synsets == coco.synsets
    assert again.sha256 == coco.sha256


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("dog\ncat\nDog\n", r"line 3: 'Dog' is already on line 1"),
        ("hot dog\nhot_dog\n", r"line 2: 'hot_dog' is already on line 1"),
        ("dog\n\ncat\n", r"line 2: is blank"),
        ("dog\ncat\n\n", r"line 3: is blank"),
        ("dog\ncaf\xe9\n".encode("latin-1"), r"line 2: the byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("", r"has no labels"),
        (" \n\n", r"has no labels"),
        ("dog\tdog.n.77\n", r"line 1: 'dog\.n\.77' is not a noun synset.*; or leave it out with --skip-unlinked"),
        ("caf\u00e9\ncafe\u0301\n", r"line 2: 'cafe\u0301' is already on line 1"),
        ("dog\ncat\n".encode("utf-16"), r"is in UTF-16 by its byte-order mark; save the file as UTF-8"),
        ("dog\ncat\n".encode("utf-32"), r"is in UTF-32 by its byte-order mark"),
        ("dog\tdog.n.01\tpet\n", r"line 1: has more than one tab"),
        ("\tdog.n.01\n", r"line 1: has no label"),
        ("dog\t\n", r"line 1: has no synset after the tab"),
        ("do\x1bg\n", r"line 1: has a character that cannot be printed"),
        ("dog\t\n" + "a" * 5000 + "\t\n", r"There is 1 more"),
        ("a" * 300, r"line 1: has a label of 300 characters; the limit is 200"),
        ("dog\t" + "a" * 10**6, r"line 1: has a synset of 1000000 characters; the limit is 200"),
        (
            "dog\nqwrtz\nxyzzy\n",
            r"2 of 3 labels have no synset, which the class graph needs: "
            r"'qwrtz' \(line 2; similar is quartz\.n\.01\), 'xyzzy' \(line 3.*"
            r"Write one after each.*or leave them out with --skip-unlinked; `mlzsl-labels .*` lists all",
        ),
    ],
)
def test_an_invalid_label_file_is_one_sentence_with_its_line(
    write: WriteLabels, content: str | bytes, sentence: str
) -> None:
    path = write(content)
    with pytest.raises(UsageError, match=sentence) as error:
        load_label_set(path)
    assert str(error.value).startswith(str(path))
    assert len(str(error.value)) < len(str(path)) + 500


STYLES: dict[str, Callable[[str], str]] = {
    "Title Case": str.title,
    "UPPER CASE": str.upper,
    "snake_case": lambda label: label.replace(" ", "_"),
    "kebab-case": lambda label: label.replace(" ", "-"),
    "spaces": lambda label: f"  {label.replace(' ', '   ')} ",
    "NFD": lambda label: unicodedata.normalize("NFD", label),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ["coco80", "nuswide81", "voc20"])
def test_a_label_set_has_the_same_synsets_in_every_style(write: WriteLabels, name: str, style: str) -> None:
    labels = load_label_set(name)
    assert load_label_set(write("\n".join(map(STYLES[style], labels.labels)))).synsets == labels.synsets


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_file_is_a_label_set_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(content)
    sentence = str(path)
    try:
        labels = load_label_set(path, skip_unlinked=True)
    except UsageError as error:
        sentence = str(error)
    else:
        assert len(labels.labels) == len(labels.synsets) > 0
    assert sentence.startswith(str(path))
    assert sentence.isprintable()


@given(st.lists(st.sampled_from(["glasses", "Glass", "bus-es", "women", "'s", "_", "-", "Ga", "s", " ", "es"])))
def test_any_name_is_linked_to_synsets_or_has_none(taxonomy: Taxonomy, parts: list[str]) -> None:
    with contextlib.suppress(UnlinkedLabelError):
        linked = link_label(taxonomy, "".join(parts), known=known_names())
        assert {linked.synset, *linked.alternatives} <= taxonomy.indices.keys()


def test_labels_that_differ_in_a_hyphen_only_are_two_labels(write: WriteLabels) -> None:
    assert load_label_set(write("t shirt\nt-shirt\n")).labels == ("t shirt", "t-shirt")


def test_labels_without_a_synset_are_left_out_and_listed_if_asked_for(
    write: WriteLabels, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("dog\nqwrtz\nstop sign\tstop_sign.n.01\ncat\n")
    labels = load_label_set(path, skip_unlinked=True, quiet=False)
    assert (labels.labels, labels.skipped) == (("dog", "cat"), ("qwrtz", "stop sign"))
    assert f"{path}: left out 2 of 4 labels, which have no synset: qwrtz, stop sign; " in capsys.readouterr().err
    with pytest.raises(UsageError, match="no label has a synset"):
        load_label_set(write("qwrtz\n"), skip_unlinked=True)
    with pytest.raises(UsageError, match="line 1: is blank"):
        load_label_set(write("\ndog\nqwrtz\n"), skip_unlinked=True)
    with pytest.raises(UsageError, match="--skip-unlinked: has no effect on coco80"):
        load_label_set("coco80", skip_unlinked=True)


def test_a_label_file_over_the_limit_is_refused(write: WriteLabels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "MAX_BYTES", 2**20)
    with pytest.raises(UsageError, match="is larger than 1 MiB"):
        load_label_set(write(b"dog\n" * 2**19))


def test_an_unknown_set_lists_the_known_sets_and_suggests_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'coc80'.*coco80, nuswide81, voc20, imagenet1k\. Did you mean coco80\?"):
        load_label_set("coc80")
    with pytest.raises(UsageError, match="is a folder"):
        load_label_set(tmp_path)
    assert set(NAMED_SETS) >= set(UNSEEN)


def test_labels_without_a_synset_are_kept_and_reported_where_nothing_needs_them(
    write: WriteLabels, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("dog\nflower in a garden\nstop sign\tstop_sign.n.01\n")
    labels = load_label_set(path, needed_by=None, quiet=False)
    assert labels.labels == ("dog", "flower in a garden", "stop sign")
    assert labels.synsets == ("dog.n.01", None, None)
    said = capsys.readouterr().err
    assert (
        "2 of 3 labels have no synset and are known by their names only: flower in a garden, stop sign (stop_" in said
    )
    assert load_label_set(path, skip_unlinked=True, needed_by=None).labels == ("dog",)
    with pytest.raises(UsageError, match="2 of 3 labels have no synset, which model RGCN needs: 'flower in a garden'"):
        load_label_set(path, needed_by="model RGCN")
    with pytest.raises(UsageError, match="have no synset, which --embeddings taxonomy needs: flower in a garden, stop"):
        require_synsets(labels, "--embeddings taxonomy")
