"""One label's threshold is the best of all by brute force, whatever the scores and ties."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlzsl.cli.errors import UsageError
from mlzsl.runtime.thresholds.operating_point import (
    BEST_F1,
    PRECISION,
    RECALL,
    Goal,
    OperatingPoint,
    choose_operating_point,
    operating_point_at,
    parse_goal,
)

GOALS = [Goal(BEST_F1), *(Goal(kind, level) for kind in (PRECISION, RECALL) for level in (0.3, 0.5, 0.8, 1.0))]

# Few different scores, so that ties are everywhere; among them neighbours in float32.
SCORES = st.sampled_from([0.0, 0.1, 0.25, 0.25000003, 0.5, 0.50000006, 0.75, 0.99999994, 1.0])
PHOTOS = st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=30).filter(lambda p: any(t for _, t in p))


def arrays(photos: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score for score, _ in photos], np.float32), np.array([truth for _, truth in photos])


def naive(threshold: float, photos: list[tuple[float, bool]]) -> tuple[int, float, float, float]:
    """Predicted positive, precision, recall and F1, counted one by one."""
    given = hits = positives = 0
    for score, truth in photos:
        positives += truth
        if np.float32(score) >= np.float32(threshold):
            given += 1
            hits += truth
    precision = hits / given if given else 0.0
    recall = hits / positives
    return given, precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0


@given(PHOTOS, st.sampled_from(GOALS))
def test_no_other_threshold_serves_the_goal_better(photos, goal):
    point = choose_operating_point(*arrays(photos), goal)
    count, precision, recall, f1 = naive(point.threshold, photos)
    assert (point.predicted_positive, point.precision, point.recall) == (count, precision, recall)
    assert point.f1 == pytest.approx(f1)
    every = [naive(score, photos) for score, _ in photos]
    if goal.kind == BEST_F1:
        assert f1 == pytest.approx(max(other[3] for other in every))
        assert count == min(other[0] for other in every if other[3] == pytest.approx(f1))
    elif goal.kind == RECALL:
        assert count == min(other[0] for other in every if other[2] >= goal.level)
    else:
        reaching = [other for other in every if other[1] >= goal.level]
        assert point.reached == bool(reaching)
        if reaching:
            assert precision >= goal.level
            assert recall == max(other[2] for other in reaching)
        else:
            assert precision == max(other[1] for other in every)


@given(PHOTOS, st.sampled_from(GOALS))
def test_the_order_of_the_photos_does_not_matter(photos, goal):
    assert choose_operating_point(*arrays(photos), goal) == choose_operating_point(*arrays(photos[::-1]), goal)


@given(PHOTOS, st.sampled_from(GOALS))
def test_a_threshold_lies_between_the_scores_where_possible(photos, goal):
    scores, targets = arrays(photos)
    threshold = np.float32(choose_operating_point(scores, targets, goal).threshold)
    above, below = scores[scores >= threshold].min(), scores[scores < threshold].max(initial=-1)
    if below >= 0 and np.nextafter(below, np.float32(1)) < above:
        assert below < threshold < above
    assert 0 <= threshold <= 1


def test_photos_of_equal_score_are_never_split():
    scores, targets = np.full(6, 0.5, np.float32), np.array([True, False, False, False, False, False])
    for goal in GOALS:
        assert choose_operating_point(scores, targets, goal).predicted_positive == 6


def test_a_precision_out_of_reach_is_marked():
    scores, targets = np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.array([False, True, True, False])
    point = choose_operating_point(scores, targets, Goal(PRECISION, 0.9))
    assert (point.predicted_positive, point.reached) == (3, False)
    assert choose_operating_point(scores, targets, Goal(PRECISION, 0.6)).reached


def test_a_label_without_photos_has_no_threshold():
    scores, targets = np.array([0.9, 0.1], np.float32), np.array([False, False])
    with pytest.raises(ValueError, match="no photo has the label"):
        choose_operating_point(scores, targets, Goal(BEST_F1))
    tried = operating_point_at(0.5, scores, targets)
    assert (tried.predicted_positive, tried.precision) == (1, 0)
    assert math.isnan(tried.recall)
    assert math.isnan(tried.f1)


def test_a_threshold_that_no_photo_reaches_has_no_precision():
    tried = operating_point_at(0.95, np.array([0.9, 0.1], np.float32), np.array([True, False]))
    assert tried == OperatingPoint(tried.threshold, 0, pytest.approx(np.nan, nan_ok=True), 0, 0)


@pytest.mark.parametrize(
    ("text", "goal"),
    [("best-f1", Goal(BEST_F1)), ("precision=0.9", Goal(PRECISION, 0.9)), ("recall=1", Goal(RECALL, 1.0))],
)
def test_goals_are_parsed_and_printed_alike(text, goal):
    assert parse_goal(text) == goal
    assert str(goal) == text


@pytest.mark.parametrize(
    "text", ["", "f1", "precision", "precision=", "precision=0", "recall=1.1", "recall=nan", "best-f1=0.5", "x=0.5"]
)
def test_unknown_goals_are_refused(text):
    with pytest.raises(UsageError, match=r"unknown; use best-f1, precision=0\.9 or recall=0\.8"):
        parse_goal(text)
