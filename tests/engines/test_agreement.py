"""Agreement against plain loops; agreements of batches are summed in the memory of one batch."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tinymodel import LABELS, manifest

from mlzsl.cli.errors import FailureError
from mlzsl.engines.agreement import combined, compare, decision_thresholds
from mlzsl.engines.artifact.manifest import Label

scores_of_photos = arrays(np.float32, (7, 6), elements=st.floats(0, 1, width=32))
THRESHOLDS = np.array([0.5, 0.1, 0.9, 0.5, 0.0, 0.25], np.float32)


def best(row, k):
    return {place for _, place in sorted((-float(score), place) for place, score in enumerate(row))[:k]}


@settings(max_examples=50)
@given(scores=scores_of_photos, reference=scores_of_photos)
def test_agreement_equals_plain_loops(scores, reference):
    found = compare(scores, reference, top_k=2, thresholds=THRESHOLDS)
    differences = [abs(float(a) - float(b)) for a, b in zip(scores.flat, reference.flat, strict=True)]
    assert (found.photos, found.labels, found.top_k) == (7, 6, 2)
    assert found.largest == max(differences)
    assert found.mean == pytest.approx(sum(differences) / 42)
    for label, threshold in enumerate(THRESHOLDS):
        pairs = [(a >= threshold, b >= threshold) for a, b in zip(scores[:, label], reference[:, label], strict=True)]
        assert found.reference_positive[label] == sum(b for _, b in pairs)
        assert found.lost[label] == sum(b and not a for a, b in pairs)
        assert found.gained[label] == sum(a and not b for a, b in pairs)
        assert found.largest_of_label[label] == max(differences[label::6])
    assert found.flipped == sum(found.lost) + sum(found.gained)
    assert found.flip_rate == found.flipped / 42
    sets = [(best(a, 2), best(b, 2)) for a, b in zip(scores, reference, strict=True)]
    assert found.same_top == sum(a == b for a, b in sets)
    assert found.top_agreement == sum(len(a & b) for a, b in sets) / 14


@settings(max_examples=50)
@given(scores=scores_of_photos, reference=scores_of_photos)
def test_agreements_of_batches_sum_to_that_of_the_whole(scores, reference):
    whole = compare(scores, reference, top_k=2)
    joined = combined(compare(scores[a:b], reference[a:b], top_k=2) for a, b in ((0, 3), (3, 4), (4, 7)))
    assert joined.mean == pytest.approx(whole.mean)
    assert joined.to_json() == whole.to_json() | {"mean": joined.mean}
    for name in ("largest_of_label", "reference_positive", "lost", "gained", "histogram"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))


@pytest.mark.parametrize("size", [1e-9, 1e-7, 1e-4, 0.3])
def test_the_percentile_is_right_within_a_64th_and_never_too_low(size):
    rng = np.random.default_rng(3)
    reference = rng.uniform(0, 0.5, (500, 40))
    scores = reference + size * rng.exponential(size=reference.shape).clip(0, 10) / 10
    exact = np.sort(np.abs(scores - reference), axis=None)[reference.size * 999 // 1000 - 1]
    found = combined(compare(scores[start : start + 64], reference[start : start + 64]) for start in range(0, 500, 64))
    assert exact <= found.percentile <= exact * (1 + 1 / 64)


def test_few_differences_have_their_largest_as_percentile_and_equal_scores_have_zero():
    reference = np.array([[0.1, 0.2], [0.3, 0.4]], np.float32)
    scores = reference + np.array([[0, 0.01], [0, 0]], np.float32)
    assert compare(scores, reference).percentile == compare(scores, reference).largest
    assert compare(reference, reference).percentile == 0


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_nan_and_infinite_scores_never_agree(broken):
    reference = np.full((400, 3), 0.5, np.float32)
    scores = reference.copy()
    scores[0, 0] = broken
    agreement = combined([compare(reference, reference), compare(scores, reference), compare(reference, reference)])
    for number in (agreement.largest, agreement.mean):
        assert not number <= 1
    assert agreement.to_json()["largest"] is None


def test_the_worst_labels_flip_most_and_then_differ_most():
    reference = np.array([[0.6, 0.1, 0.1, 0.4], [0.6, 0.1, 0.1, 0.1]])
    scores = np.array([[0.4, 0.1, 0.3, 0.6], [0.4, 0.2, 0.1, 0.1]])
    assert compare(scores, reference).worst_labels(4) == [0, 3, 2, 1]
    assert compare(scores, reference).worst_labels(2) == [0, 3]


def test_labels_are_decided_at_their_thresholds_or_at_one_half():
    labels = tuple(Label(x.name, x.synset, x.seen, 0.25 if x.seen else None) for x in LABELS)
    found = decision_thresholds(manifest(labels=labels))
    np.testing.assert_array_equal(found, np.where([x.seen for x in LABELS], 0.25, 0.5).astype(np.float32))


def test_memory_does_not_grow_with_the_number_of_batches():
    scores = np.random.default_rng(0).uniform(size=(4, 50)).astype(np.float32)

    def peak(batches):
        tracemalloc.start()
        combined(compare(scores, scores) for _ in range(batches))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)
    assert peak(300) < 2 * peak(3)


@pytest.mark.parametrize("parts", [[], [(2, 3), (2, 4)], [(0, 3)]], ids=["nothing", "other labels", "no photos"])
def test_scores_of_other_shapes_are_refused(parts):
    with pytest.raises(FailureError):
        combined(compare(np.zeros(shape, np.float32), np.zeros(shape, np.float32)) for shape in parts)
