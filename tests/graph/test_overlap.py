"""External classes that are labels are found by synset, name and vector; class graphs keep them or leave them out."""

import numpy as np
import pytest

from mlzsl.graph.classgraph import build_class_graph
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import LabelSet, load_label_set
from mlzsl.graph.overlap import KEEP, LEAVE_OUT, SYNSETS, find_overlap, shared_classes


def test_imagenets_classes_that_are_labels_of_coco() -> None:
    labels, external = load_label_set("coco80"), load_label_set("imagenet1k")
    found = {(each.label, external.labels[each.external]): each.how for each in find_overlap(labels, external)}
    assert found[("keyboard", "computer keyboard")] == "vector"
    assert found[("tv", "television")] == "vector"
    assert found[("cup", "cup")] == "name"
    assert found[("broccoli", "broccoli")] == "synset"
    assert ("kite", "kite") not in found  # a bird
    assert len(found) == 25


def test_a_plain_name_without_a_synset_is_found_by_the_classes_lemmas() -> None:
    labels = LabelSet("phrases", ("Coffee-Mug", "notebook_computer", "a walk in the rain"), (None, None, None))
    external = load_label_set("imagenet1k")
    found = [(each.label, external.labels[each.external], each.how) for each in find_overlap(labels, external)]
    assert found == [("Coffee-Mug", "coffee mug", "name"), ("notebook_computer", "notebook", "name")]


def test_each_class_is_found_once_in_the_order_of_the_logits() -> None:
    external = load_label_set("imagenet1k")
    found = [each.external for each in find_overlap(external, external)]
    assert found == list(range(1000))
    assert find_overlap(LabelSet("none", (), ()), external) == ()


@pytest.mark.parametrize(("overlap", "count"), [(KEEP, 0), (SYNSETS, 22), (LEAVE_OUT, 25)])
def test_the_class_graph_has_the_other_classes(overlap: object, count: int) -> None:
    labels, external = load_label_set("coco80"), load_label_set("imagenet1k")
    graph = build_class_graph(labels, (), external, open_embeddings("minilm"), overlap=overlap, edges=False)
    assert len(graph.externals) == 1000 - count
    assert graph.left_out == (() if overlap == KEEP else shared_classes(labels, external, overlap))
    shared = {each.external for each in graph.left_out}
    assert [index for index in range(1000) if index not in shared] == graph.external_logits.tolist()
    assert (graph.adjacency, graph.edges, graph.nodes) == (None, 0, 1080 - count)


def test_a_limit_keeps_the_classes_of_the_greatest_cosine_with_a_label() -> None:
    labels, external, embeddings = load_label_set("voc20"), load_label_set("imagenet1k"), open_embeddings("minilm")
    whole = build_class_graph(labels, (), external, embeddings, overlap=KEEP, edges=False)
    part = build_class_graph(labels, (), external, embeddings, overlap=KEEP, most_externals=100)
    vectors = whole.embeddings / np.linalg.norm(whole.embeddings, axis=1, keepdims=True)
    closest = [max(float(vector @ target) for target in vectors[:20]) for vector in vectors[20:]]
    kept = set(part.external_logits.tolist())
    assert len(kept) == 100
    assert part.external_logits.tolist() == sorted(kept)
    least = min(closest[index] for index in kept)
    assert all(closest[index] <= least + 1e-6 for index in range(1000) if index not in kept)
    assert part.externals == tuple(external.labels[index] for index in part.external_logits)
    assert part.adjacency is not None
    assert part.adjacency.shape == (120, 120)
