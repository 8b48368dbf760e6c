"""Predicted thresholds: the formulas, the intervals, and that no label affects its own prediction."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlzsl.runtime.thresholds.prediction import COVERAGE, SCALES, KnownLabels, Method, cross_validate, overlap, predict

PHOTOS, LABELS = 400, 12


def drawn(seed: int = 0, labels: int = LABELS) -> KnownLabels:
    """Labels whose scores differ in level and spread; each threshold gives its label to 2 to 15 % of the photos."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-4, 2, labels) + rng.uniform(0.5, 2, labels) * rng.normal(size=(PHOTOS, labels))
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    shares = rng.uniform(0.02, 0.15, labels)
    thresholds = np.array([np.quantile(scores[:, j], 1 - shares[j]) for j in range(labels)])
    near = rng.uniform(0.1, 0.9, (labels, labels))
    return KnownLabels(scores, thresholds, (near + near.T) / 2 + np.diag(1 - np.diag(near)))


def logit(value: float) -> float:
    return math.log(value / (1 - value))


@pytest.mark.parametrize("sharpness", [0.0, 8.0])
def test_the_weighted_mean_of_the_scores_by_hand(sharpness):
    known = drawn()
    similarities = np.random.default_rng(1).uniform(0, 1, (1, LABELS))
    predicted = predict(known, drawn(2).scores[:, :1], similarities, Method("logit", sharpness))
    top = bottom = 0.0
    for j in range(LABELS):
        weight = math.exp(sharpness * similarities[0, j])
        top += weight * logit(known.thresholds[j])
        bottom += weight
    assert predicted.thresholds[0] == pytest.approx(1 / (1 + math.exp(-top / bottom)))


def test_a_positive_rate_is_converted_to_other_scores():
    known = drawn()
    predicted_positive = 20
    falling = np.sort(known.scores, axis=0)[::-1]
    known = dataclasses.replace(known, thresholds=falling[predicted_positive - 1].astype(np.float64))
    other = drawn(5).scores[:, :3]
    predicted = predict(known, other, np.full((3, LABELS), 0.5), Method("positive rate", 0.0))
    assert (other >= predicted.thresholds.astype(np.float32)).sum(axis=0).tolist() == [predicted_positive] * 3


def test_the_normalized_logit_does_not_change_with_level_and_spread():
    known = drawn()
    logits = np.log(known.scores.astype(np.float64) / (1 - known.scores))
    shifted = 1 / (1 + np.exp(-(1.3 * logits + 0.5)))
    values = SCALES["normalized logit"].encode(known.thresholds, known.scores)
    thresholds = SCALES["normalized logit"].decode(values, shifted.astype(np.float32))
    ours = (known.scores >= known.thresholds.astype(np.float32)).sum(axis=0)
    theirs = (shifted.astype(np.float32) >= thresholds.astype(np.float32)).sum(axis=0)
    assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("scale", SCALES)
@given(seed=st.integers(0, 50))
def test_every_scale_converts_a_threshold_there_and_back(scale, seed):
    known = drawn(seed, labels=4)
    values = SCALES[scale].encode(known.thresholds, known.scores)
    back = SCALES[scale].decode(values, known.scores)
    assert (overlap(known.scores, back, known.thresholds) > 0.85).all()
    assert ((back >= 0) & (back <= 1)).all()


@pytest.mark.parametrize("scale", SCALES)
def test_constant_scores_are_handled(scale):
    known = drawn()
    flat = np.stack([np.zeros(PHOTOS), np.ones(PHOTOS), np.full(PHOTOS, 0.3)], axis=1).astype(np.float32)
    predicted = predict(known, flat, np.full((3, LABELS), 0.5), Method(scale, 4.0))
    for values in (predicted.thresholds, predicted.low, predicted.high):
        assert np.isfinite(values).all()
        assert ((values >= 0) & (values <= 1)).all()


@pytest.mark.parametrize("scale", SCALES)
def test_the_interval_contains_the_prediction(scale):
    known = drawn()
    predicted = predict(known, drawn(3).scores, known.similarities, Method(scale, 4.0))
    assert (predicted.low <= predicted.high).all()
    inside = (predicted.low <= predicted.thresholds) & (predicted.thresholds <= predicted.high)
    assert inside.all()


def test_overlap_is_that_of_the_two_sets_of_photos():
    known = drawn()
    other = drawn(4).thresholds
    for j, found in enumerate(overlap(known.scores, known.thresholds, other)):
        a = {n for n in range(PHOTOS) if known.scores[n, j] >= np.float32(known.thresholds[j])}
        b = {n for n in range(PHOTOS) if known.scores[n, j] >= np.float32(other[j])}
        assert found == pytest.approx(len(a & b) / len(a | b) if a | b else 1)


def test_a_label_left_out_does_not_affect_its_own_prediction():
    known = drawn()
    before = cross_validate(known).left_out
    for j in range(LABELS):
        thresholds = known.thresholds.copy()
        thresholds[j] = 0.999
        after = cross_validate(dataclasses.replace(known, thresholds=thresholds)).left_out
        assert after.thresholds[j] == before.thresholds[j]
        assert (after.low[j], after.high[j]) == (before.low[j], before.high[j])


def test_the_scale_that_predicts_best_is_found():
    known = drawn()
    falling = np.sort(known.scores, axis=0)[::-1]
    known = dataclasses.replace(known, thresholds=falling[29].astype(np.float64))
    found = cross_validate(known)
    assert found.method.scale == "positive rate"
    assert found.overlap == 1
    assert found.coverage == 1


def test_similar_labels_weigh_more_where_they_predict_better():
    """Two families of labels, one on a tenth of the photos and one on a fiftieth."""
    known = drawn()
    family = np.arange(LABELS) % 2
    falling = np.sort(known.scores, axis=0)[::-1]
    thresholds = np.where(family, falling[PHOTOS // 10 - 1], falling[PHOTOS // 50 - 1]).astype(np.float64)
    similarities = np.where(family[:, None] == family[None, :], 0.9, 0.1)
    found = cross_validate(KnownLabels(known.scores, thresholds, similarities))
    assert found.method.sharpness > 0
    assert found.overlap > 0.95


def test_intervals_have_about_the_stated_coverage():
    covered = [cross_validate(drawn(seed, labels=50)).coverage for seed in range(2)]
    assert abs(np.mean(covered) - COVERAGE) < 0.1
