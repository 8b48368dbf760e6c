"""Weights in whole steps: none is off by a step, and no filter's sum by more than half of one."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlzsl.calibration.rounding import rounded_keeping_sums, rounded_on_inputs

weights = arrays(np.float32, (3, 2, 3, 3), elements=st.floats(-126, 126, width=32))


@settings(max_examples=60)
@given(weights=weights)
def test_each_weight_stays_within_a_step_and_each_sum_within_half(weights):
    steps = rounded_keeping_sums(weights, 127)
    assert (steps == np.rint(steps)).all()
    assert (np.abs(steps - weights) < 1).all()
    sums = (steps - weights.astype(np.float64)).sum(axis=(2, 3))
    assert (np.abs(sums) <= 0.5 + 1e-9).all()


def test_whole_numbers_stay_and_the_ends_hold():
    whole = np.arange(-9, 9, dtype=np.float32).reshape(1, 2, 3, 3)
    np.testing.assert_array_equal(rounded_keeping_sums(whole, 127), whole)
    assert np.abs(rounded_keeping_sums(np.full((1, 1, 3, 3), 127.4), 127)).max() == 127


def squared_error(weights, steps, patches):
    """Mean square of the difference that rounding makes to outputs, over channels and patches."""
    return np.square(patches @ (steps - weights).reshape(len(weights), -1).T).mean()


def test_rounded_for_what_they_read_filters_give_nearly_what_they_gave():
    """Inputs of a positive mean that go together, as those behind a Relu do."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 30, (5, 40, 3, 3)).astype(np.float32)
    patches = np.maximum(rng.normal(0, 1, (600, 30)) @ rng.normal(0, 1, (30, 360)) + 2, 0).astype(np.float32)
    steps = rounded_on_inputs(weights, patches.T @ patches, 127)
    assert steps.shape == weights.shape
    assert (steps == np.rint(steps)).all()
    assert np.abs(steps).max() <= 127
    assert squared_error(weights, steps, patches) < 0.2 * squared_error(weights, np.rint(weights), patches)


def test_inputs_that_do_not_go_together_leave_the_nearest_step():
    weights = np.random.default_rng(1).normal(0, 30, (4, 7, 1, 1)).astype(np.float32)
    np.testing.assert_array_equal(rounded_on_inputs(weights, np.diag(np.arange(7.0)), 127), np.rint(weights))


def test_a_layer_that_reads_only_zeros_is_rounded_all_the_same():
    weights = np.full((2, 3, 1, 1), 1.6, np.float32)
    np.testing.assert_array_equal(rounded_on_inputs(weights, np.zeros((3, 3), np.float32), 127), np.rint(weights))


def test_a_small_case_is_as_near_as_trying_all_roundings_gives():
    """The nearest-plane algorithm is not exact; twice the least error is near, nearest steps are ten times it."""
    rng = np.random.default_rng(2)
    patches = rng.normal(0, 1, (50, 8)) * 0.2 + rng.normal(0, 1, (50, 1)) + 1
    weights = rng.normal(0, 20, (6, 8, 1, 1))
    moved = np.array(list(itertools.product((0, 1), repeat=8)))
    tried = np.floor(weights.reshape(6, 1, 8)) + moved  # channels, roundings, weights
    errors = np.square((tried - weights.reshape(6, 1, 8)) @ patches.T).mean(axis=2)
    steps = rounded_on_inputs(weights, patches.T @ patches, 127)
    assert squared_error(weights, steps, patches) < 2 * errors.min(axis=1).mean()
