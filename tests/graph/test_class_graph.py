"""The class graph: order of nodes, edges by WUP similarity, and the training graph without unseen labels."""

from pathlib import Path

import numpy as np
import pytest

from mlzsl.cli.errors import UsageError
from mlzsl.graph.classgraph import ClassGraph, build_class_graph
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import UNSEEN, LabelSet, load_label_set
from mlzsl.graph.overlap import find_overlap
from mlzsl.graph.taxonomy import Taxonomy
from mlzsl.graph.wup import wup_similarity


def graph_of(name: str, threshold: float = 0.5) -> ClassGraph:
    labels = load_label_set(name)
    seen = set(labels.labels) - set(UNSEEN.get(name, ()))
    return build_class_graph(labels, seen, load_label_set("imagenet1k"), open_embeddings("taxonomy"), threshold)


@pytest.fixture(scope="module")
def coco() -> ClassGraph:
    return graph_of("coco80")


def test_nodes_are_targets_then_the_external_classes_that_are_not_targets(coco: ClassGraph) -> None:
    labels, external = load_label_set("coco80"), load_label_set("imagenet1k")
    shared = {each.external for each in find_overlap(labels, external)}
    kept = [i for i in range(len(external)) if i not in shared]
    assert coco.targets == labels.labels
    assert coco.external_logits.tolist() == kept
    assert coco.externals == tuple(external.labels[i] for i in kept)
    assert coco.nodes == len(labels) + len(kept) == len(coco.embeddings) == len(coco.origins)
    assert "zebra" not in coco.externals  # a COCO class
    assert "kite" in coco.externals  # ImageNet's is a bird, COCO's a toy


@pytest.mark.parametrize(("name", "left_out"), [("coco80", 25), ("nuswide81", 4), ("voc20", 1), ("imagenet1k", 1000)])
def test_number_of_imagenet_classes_left_out(name: str, left_out: int) -> None:
    assert len(graph_of(name).externals) == 1000 - left_out


def test_edges_are_wup_above_the_threshold_with_self_connections(coco: ClassGraph, taxonomy: Taxonomy) -> None:
    similarities = wup_similarity(taxonomy, coco.target_synsets + coco.external_synsets)
    expected = (similarities > 0.5) | (similarities.T > 0.5) | np.eye(coco.nodes, dtype=bool)
    assert np.array_equal(coco.adjacency, expected)
    assert coco.edges == np.triu(expected, 1).sum()
    others = expected & ~np.eye(coco.nodes, dtype=bool)
    assert np.array_equal(coco.target_neighbours, others[:, :80].sum(axis=1))
    assert np.array_equal(coco.external_neighbours, others[:, 80:].sum(axis=1))


def test_the_training_graph_is_the_graph_of_the_seen_labels(coco: ClassGraph) -> None:
    training, labels = coco.training(), load_label_set("coco80")
    seen = [i for i, label in enumerate(labels.labels) if label not in UNSEEN["coco80"]]
    nodes = [*seen, *range(80, coco.nodes)]
    assert training.targets == tuple(labels.labels[i] for i in seen)
    assert training.target_synsets == tuple(labels.synsets[i] for i in seen)
    assert training.seen.all()
    assert training.externals == coco.externals
    assert np.array_equal(training.embeddings, coco.embeddings[nodes])
    assert np.array_equal(training.adjacency, coco.adjacency[np.ix_(nodes, nodes)])
    assert len(training.origins) == training.nodes
    assert training.training() is training


def test_a_label_has_the_same_vector_in_every_set(coco: ClassGraph) -> None:
    pair = LabelSet("pair", ("boat", "zebra"), ("boat.n.01", "zebra.n.01"))
    small = build_class_graph(pair, ["zebra"], load_label_set("imagenet1k"), open_embeddings("taxonomy"))
    assert np.array_equal(small.embeddings[0], coco.embeddings[coco.targets.index("boat")])
    assert small.seen.tolist() == [False, True]


def test_dtypes_of_the_class_graph(coco: ClassGraph) -> None:
    assert coco.embeddings.dtype == np.float32
    assert coco.adjacency.dtype == coco.seen.dtype == np.bool_
    assert coco.external_logits.dtype == np.int64
    assert all(isinstance(value, str) for value in coco.sources.values())


def test_a_label_without_a_synset_is_a_node_without_edges(tmp_path: Path) -> None:
    names = ("boat", "red balloon in the sky", "zebra", "entity")
    np.save(tmp_path / "v.npy", np.eye(4, dtype=np.float32))
    (tmp_path / "v.txt").write_text("\n".join(names))
    labels = LabelSet("three", names[:3], ("boat.n.01", None, "zebra.n.01"))
    imagenet = load_label_set("imagenet1k")
    graph = build_class_graph(labels, ["zebra"], imagenet, open_embeddings(str(tmp_path / "v.npy")))
    without = build_class_graph(
        LabelSet("two", ("boat", "zebra"), ("boat.n.01", "zebra.n.01")),
        ["zebra"],
        imagenet,
        open_embeddings("taxonomy"),
    )
    others = [node for node in range(graph.nodes) if node != 1]
    assert graph.adjacency[1].nonzero()[0].tolist() == [1]
    assert np.array_equal(graph.adjacency[np.ix_(others, others)], without.adjacency)
    assert graph.externals == without.externals
    with pytest.raises(
        UsageError, match="1 of 3 labels have no synset, which --embeddings taxonomy needs: red balloon"
    ):
        build_class_graph(labels, [], imagenet, open_embeddings("taxonomy"))


def test_a_fallback_vector_of_a_target_is_reported(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("vessel 1 2\nentity 3 4\n")
    pair = LabelSet("pair", ("boat",), ("boat.n.01",))
    graph = build_class_graph(pair, [], load_label_set("voc20"), open_embeddings(str(tmp_path / "v.txt")))
    assert graph.fallbacks() == (
        "the label 'boat' has no vector in v.txt; the vector of its hypernym 'vessel' is used.",
    )


def test_a_graph_without_externals_or_without_edges() -> None:
    alone = graph_of("voc20", threshold=1.0)
    assert alone.edges == 0
    labels = load_label_set("voc20")
    none = build_class_graph(labels, labels.labels, LabelSet("none", (), ()), open_embeddings("taxonomy"))
    assert none.nodes == 20
    assert none.external_logits.shape == (0,)


def test_invalid_arguments_are_one_sentence() -> None:
    labels, embeddings = load_label_set("voc20"), open_embeddings("taxonomy")
    with pytest.raises(UsageError, match="unicorn: seen, but not in the label set voc20"):
        build_class_graph(labels, ["unicorn"], labels, embeddings)
    with pytest.raises(UsageError, match=r"the WUP threshold is 1\.5; it must lie between 0 and 1"):
        build_class_graph(labels, [], labels, embeddings, threshold=1.5)
