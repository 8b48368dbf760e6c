"""Weights in whole steps: none is off by a step, and no filter's sum by more than half of one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlzsl.calibration.rounding import rounded_keeping_sums

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
