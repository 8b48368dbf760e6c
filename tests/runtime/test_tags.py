"""Selection of tags: the requested labels, best first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinymodel import LABELS, manifest

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.manifest import Label
from mlzsl.runtime.tags import Tag, Tagged, choose_selection, select_tags

SCORES = np.array([0.5, 0.9, 0.1, 0.5, 0.7, 0.3], np.float32)
PLAIN = manifest()
OWN = manifest(labels=tuple(Label(x.name, x.synset, x.seen, 0.2 + 0.1 * i) for i, x in enumerate(LABELS)))


def names(model, **asked):
    return [tag.label for tag in select_tags(SCORES, model, choose_selection(model, **asked))]


def test_without_thresholds_those_of_the_best_five_that_reach_the_default_score_ties_in_label_order():
    assert names(PLAIN) == ["cat", "café", "dog", "zebra", "snowboard"]
    assert choose_selection(PLAIN).description == "of the best 5 labels, those that reach 0.25"


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([0.249, 0.2, 0.1, 0, 0.24, 0], []), ([0.2, 0.9, 0.1, 0.249, 0.25, 0], ["cat", "café"]), ([0.9] * 6, None)],
    ids=["none of the labels", "two of them", "more than five"],
)
def test_without_thresholds_labels_of_low_scores_are_absent(scores, expected):
    found = select_tags(np.array(scores, np.float32), PLAIN, choose_selection(PLAIN))
    assert [tag.label for tag in found] == ([label.name for label in LABELS[:5]] if expected is None else expected)


@given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6), st.integers(0, 5), st.floats(0, 1, width=32))
def test_a_better_score_never_loses_its_tag(scores, index, higher):
    scores = np.array(scores, np.float32)
    better = scores.copy()
    better[index] = max(scores[index], np.float32(higher))
    before, after = (
        {tag.label for tag in select_tags(values, PLAIN, choose_selection(PLAIN))} for values in (scores, better)
    )
    assert LABELS[index].name not in before - after


def test_the_models_own_thresholds_apply_if_it_has_them():
    assert names(OWN) == ["cat", "café", "dog", "zebra"]


def test_flags_replace_the_default_selection():
    assert names(OWN, top_k=6) == ["cat", "café", "dog", "zebra", "snowboard", "traffic light"]
    assert names(OWN, threshold=0.7) == ["cat", "café"]
    assert names(PLAIN, threshold=0.5) == ["cat", "café", "dog", "zebra"]
    assert names(PLAIN, threshold=0.5, top_k=3) == ["cat", "café", "dog"]
    assert names(PLAIN, threshold=0.95) == []
    assert names(PLAIN, top_k=100) == names(OWN, top_k=6)


def test_thresholds_of_only_some_labels_are_ignored():
    some = manifest(labels=(Label("dog", "dog.n.01", True, 0.99), *LABELS[1:]))
    assert names(some) == names(PLAIN)


def test_a_tag_has_its_score_and_whether_training_saw_it():
    tags = select_tags(SCORES, PLAIN, choose_selection(PLAIN))
    assert tags[0] == Tag("cat", 0.9, True)
    assert tags[3] == Tag("zebra", 0.5, False)


@pytest.mark.parametrize("asked", [{"top_k": 0}, {"threshold": 1.5}, {"threshold": -0.1}, {"threshold": float("nan")}])
def test_impossible_rules_are_refused(asked):
    with pytest.raises(UsageError, match=r"--top-k|--threshold"):
        choose_selection(PLAIN, **asked)


def test_a_name_is_escaped_for_a_terminal():
    assert Tagged("a\x1b[31m\nb\udce9é.jpg").name == r"a\x1b[31m\nb\udce9é.jpg"
