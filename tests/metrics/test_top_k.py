"""Precision, recall and F1 at k against counting one by one, over all orders of ties."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlzsl.cli.errors import FailureError
from mlzsl.metrics.top_k import evaluate_top_k, expected_hits

IMAGES, LABELS = 30, 12


def scores_targets_seen(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((IMAGES, LABELS)), rng.random((IMAGES, LABELS)) < 0.15, np.arange(LABELS) % 3 != 0


def naive_metrics(scores: np.ndarray, targets: np.ndarray, k: int) -> tuple[float, float, float]:
    """Sort each image's labels, take k, count."""
    taken = right = hits = 0
    for row, truth in zip(scores.tolist(), targets.tolist(), strict=True):
        if any(truth):
            best = sorted(range(len(row)), key=lambda label: -row[label])[:k]
            taken, right, hits = taken + len(best), right + sum(truth), hits + sum(truth[label] for label in best)
    precision, recall = hits / taken, hits / right
    return precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 3, 5, 40])
def test_metrics_equal_counting_one_by_one(seed: int, k: int) -> None:
    scores, targets, seen = scores_targets_seen(seed)
    found = evaluate_top_k(scores, targets, seen, ks=(k,))
    for way, chosen in (("conventional", ~seen), ("generalized", np.ones(LABELS, bool))):
        at_k = found[way][0]
        assert (at_k.precision, at_k.recall, at_k.F1) == pytest.approx(
            naive_metrics(scores[:, chosen], targets[:, chosen], k), abs=1e-12
        )
        assert (at_k.k, at_k.images) == (k, targets[:, chosen].any(axis=1).sum())


def test_generalized_ranks_seen_labels_against_unseen_ones() -> None:
    scores = np.array([[0.9, 0.8, 0.1, 0.2]])
    targets = np.array([[False, False, False, True]])
    seen = np.array([True, True, False, False])
    found = evaluate_top_k(scores, targets, seen, ks=(1,))
    assert found["conventional"][0].F1 == 1.0
    assert found["generalized"][0].F1 == 0.0  # a seen label takes the place


@given(st.data())
def test_ties_count_as_the_mean_over_all_orders(data: st.DataObject) -> None:
    labels = data.draw(st.integers(1, 5))
    scores = data.draw(arrays.arrays(np.float64, (1, labels), elements=st.sampled_from([0.0, 0.5, 1.0])))
    targets = data.draw(arrays.arrays(np.bool_, (1, labels)))
    k = data.draw(st.integers(1, labels))
    hits = []
    for order in itertools.permutations(range(labels)):
        best = sorted(order, key=lambda label: -scores[0, label])[:k]  # sorting keeps the order of equals
        hits.append(targets[0, best].sum())
    assert expected_hits(scores, targets, k)[0] == pytest.approx(np.mean(hits), abs=1e-12)


def test_images_without_a_label_do_not_count_and_nan_is_null_in_json() -> None:
    scores, targets, seen = scores_targets_seen(0)
    targets[:, ~seen] = False
    found = evaluate_top_k(scores, targets, seen)
    assert [at_k.images for at_k in found["conventional"]] == [0, 0]
    assert math.isnan(found["conventional"][0].F1)
    assert json.loads(json.dumps(found["conventional"][0].to_json(), allow_nan=False))["F1"] is None
    assert found["generalized"][0].images == targets.any(axis=1).sum()
    everything_seen = evaluate_top_k(scores, targets, np.ones(LABELS, bool))
    assert everything_seen["conventional"][1].images == 0


def test_nan_scores_are_refused() -> None:
    scores, targets, seen = scores_targets_seen(1)
    scores[3, 3] = np.nan
    with pytest.raises(FailureError, match="NaN"):
        evaluate_top_k(scores, targets, seen)
