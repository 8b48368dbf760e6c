"""mAP and miAP against the formula, scikit-learn, and all orders."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import average_precision_score

from mlzsl.cli.errors import FailureError
from mlzsl.metrics.average_precision import average_precisions, evaluate, expected_average_precisions

IMAGES, LABELS = 40, 12


def scores_targets_seen(seed: int, levels: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random scores (of `levels` values, so that they tie), sparse targets, a third of the labels unseen."""
    rng = np.random.default_rng(seed)
    scores = rng.random((IMAGES, LABELS), dtype=np.float32)
    if levels is not None:
        scores = np.floor(scores * levels) / np.float32(levels)
    return scores, rng.random((IMAGES, LABELS)) < 0.15, np.arange(LABELS) % 3 != 0


def naive_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Σ (R_k - R_{k-1}) P_k over distinct scores, one at a time."""
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        taken = scores >= threshold
        recall = (taken & targets).sum() / targets.sum()
        total += (recall - recall_before) * (taken & targets).sum() / taken.sum()
        recall_before = recall
    return total


@pytest.mark.parametrize("levels", [None, 50, 5, 2, 1], ids=lambda levels: f"{levels or 'all'} distinct scores")
@pytest.mark.parametrize("seed", range(5))
def test_average_precision_equals_scikit_learn_and_the_formula(seed: int, levels: int | None) -> None:
    scores, targets, seen = scores_targets_seen(seed, levels)
    metrics = evaluate(scores, targets, seen)
    for name, chosen in (("seen", seen), ("unseen", ~seen)):
        for peer in (lambda s, t: average_precision_score(t, s), naive_average_precision):
            by_class = [peer(scores[:, c], targets[:, c]) for c in np.flatnonzero(chosen) if targets[:, c].any()]
            by_image = [peer(s[chosen], t[chosen]) for s, t in zip(scores, targets, strict=True) if t[chosen].any()]
            assert metrics[name].mAP == pytest.approx(np.mean(by_class), abs=1e-12)
            assert metrics[name].miAP == pytest.approx(np.mean(by_image), abs=1e-12)
            assert (metrics[name].classes, metrics[name].images) == (len(by_class), len(by_image))


@given(st.data())
def test_average_precision_equals_the_formula_on_any_row(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 12)))
    levels = st.sampled_from([-np.inf, -1.5, 0.0, 1e-30, 0.5, np.inf])
    scores = data.draw(arrays.arrays(np.float64, shape, elements=levels | st.floats(-1, 1)))
    targets = data.draw(arrays.arrays(np.bool_, shape))
    found = average_precisions(scores, targets)
    for row, (row_scores, row_targets) in enumerate(zip(scores, targets, strict=True)):
        if row_targets.any():
            assert found[row] == pytest.approx(naive_average_precision(row_scores, row_targets), abs=1e-12)
        else:
            assert math.isnan(found[row])


def test_the_order_of_photos_and_labels_does_not_matter() -> None:
    scores, targets, seen = scores_targets_seen(seed=0, levels=4)
    rng = np.random.default_rng(1)
    photos, labels = rng.permutation(IMAGES), rng.permutation(LABELS)
    shuffled = evaluate(scores[photos][:, labels], targets[photos][:, labels], seen[labels])
    for name, expected in evaluate(scores, targets, seen).items():
        assert shuffled[name].mAP == pytest.approx(expected.mAP, abs=1e-12)
        assert shuffled[name].miAP == pytest.approx(expected.miAP, abs=1e-12)


def test_metrics_depend_only_on_the_order_of_scores() -> None:
    scores, targets, seen = scores_targets_seen(seed=2)
    assert evaluate(scores, targets, seen) == evaluate(np.log(scores.astype(np.float64)), targets, seen)


def test_perfect_and_worst_rankings() -> None:
    targets = np.array([[True, False], [False, True], [False, True], [False, True]])
    seen = np.array([True, True])
    assert evaluate(targets.astype(np.float32), targets, seen)["seen"].mAP == 1.0
    assert evaluate(targets.astype(np.float32), targets, seen)["seen"].miAP == 1.0
    worst = evaluate(-targets.astype(np.float32), targets, seen)["seen"]
    assert worst.miAP == 0.5  # the one true label always second
    assert worst.mAP == pytest.approx((1 / 4 + 3 / 4) / 2)  # all true ones tied at the end


def test_constant_scores_give_the_prevalence() -> None:
    targets = np.array([[True, False], [True, False], [False, True], [False, False]])
    metrics = evaluate(np.full((4, 2), 0.5), targets, np.array([True, True]))["seen"]
    assert metrics.mAP == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert metrics.miAP == pytest.approx(0.5)


def test_all_positive_targets_give_one() -> None:
    metrics = evaluate(np.random.default_rng(0).random((5, 3)), np.ones((5, 3), bool), np.ones(3, bool))["seen"]
    assert (metrics.mAP, metrics.miAP, metrics.chance_mAP, metrics.chance_miAP) == (1.0, 1.0, 1.0, 1.0)


def test_empty_classes_and_images_are_left_out_and_counted() -> None:
    targets = np.zeros((4, 5), bool)
    targets[0, 0] = targets[1, 1] = targets[1, 4] = True
    seen = np.array([True, True, True, False, False])
    metrics = evaluate(np.random.default_rng(0).random((4, 5)), targets, seen)
    assert (metrics["seen"].classes, metrics["seen"].classes_left_out) == (2, 1)
    assert (metrics["seen"].images, metrics["seen"].images_left_out) == (2, 2)
    assert (metrics["unseen"].classes, metrics["unseen"].classes_left_out) == (1, 1)
    assert (metrics["unseen"].images, metrics["unseen"].images_left_out) == (1, 3)


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (3, 0)])
def test_nothing_to_measure_is_nan_and_null_in_json(shape: tuple[int, int]) -> None:
    metrics = evaluate(np.zeros(shape), np.zeros(shape, bool), np.ones(shape[1], bool))
    for part in metrics.values():
        assert math.isnan(part.mAP)
        assert math.isnan(part.miAP)
        assert (part.classes, part.images) == (0, 0)
        assert json.loads(json.dumps(part.to_json(), allow_nan=False))["mAP"] is None


@pytest.mark.parametrize(("items", "positives"), [(1, 1), (5, 1), (6, 2), (6, 5), (7, 7)])
def test_chance_is_the_mean_over_all_orders(items: int, positives: int) -> None:
    orders = list(itertools.combinations(range(items), positives))
    targets = np.zeros((len(orders), items), bool)
    for row, ranks in enumerate(orders):
        targets[row, list(ranks)] = True
    descending = np.broadcast_to(-np.arange(items, dtype=np.float64), targets.shape)
    expected = average_precisions(descending, targets).mean()
    assert expected_average_precisions(np.array([positives]), items)[0] == pytest.approx(expected, abs=1e-12)


def test_random_scores_are_close_to_chance() -> None:
    rng = np.random.default_rng(0)
    targets = rng.random((4000, 30)) < 0.05
    metrics = evaluate(rng.random(targets.shape), targets, np.ones(30, bool))["seen"]
    assert metrics.mAP == pytest.approx(metrics.chance_mAP, abs=0.005)
    assert metrics.miAP == pytest.approx(metrics.chance_miAP, abs=0.01)


def test_a_nan_score_is_refused_with_its_image() -> None:
    scores, targets, seen = scores_targets_seen(seed=3)
    scores[7, 2] = scores[9, 2] = np.nan
    with pytest.raises(FailureError, match=r"2 of 40 images hold NaN \(first image 7\)"):
        evaluate(scores, targets, seen)


@pytest.mark.parametrize(
    ("scores", "targets", "seen"),
    [
        (np.zeros((3, 4)), np.zeros((3, 5), bool), np.zeros(4, bool)),
        (np.zeros((3, 4)), np.zeros((3, 4), bool), np.zeros(3, bool)),
        (np.zeros(4), np.zeros(4, bool), np.zeros(4, bool)),
        (np.zeros((3, 4)), np.zeros((3, 4), int), np.zeros(4, bool)),
        (np.zeros((3, 4), int), np.zeros((3, 4), bool), np.zeros(4, bool)),
    ],
)
def test_shapes_and_dtypes_that_do_not_fit_are_refused(
    scores: np.ndarray, targets: np.ndarray, seen: np.ndarray
) -> None:
    with pytest.raises(FailureError, match="evaluation found"):
        evaluate(scores, targets, seen)
