"""Weights to whole numbers of steps, so that what a filter gives on a flat patch stays what it was.

Rounding each weight to the nearest step errs at random, and the errors of a filter's weights add up: a filter that
takes differences of neighbours then answers to brightness as well, which varies far more than the differences do.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def rounded_keeping_sums(weights: Floats, largest: int) -> npt.NDArray[np.float64]:
    """Round the weights of convolutions so that each filter's sum over its places is off by half a step at most.

    Those weights are rounded the other way that lie nearest to the middle between two steps.

    Args:
        weights: in steps, [channels, inputs, ...places].
        largest: magnitude in steps.

    Returns:
        Whole numbers in [-largest, largest], each less than a step from its weight, as float64.
    """
    filters = weights.astype(np.float64).reshape(weights.shape[0] * weights.shape[1], -1)  # one a channel and input
    steps = np.rint(filters)
    errors = filters - steps  # (filters, places), within half a step
    missing = np.rint(errors.sum(axis=1, keepdims=True))
    direction = np.sign(missing)
    rank = np.argsort(np.argsort(-errors * direction, axis=1, kind="stable"), axis=1)
    steps += np.where(rank < np.abs(missing), direction, 0)
    return np.clip(steps, -largest, largest).reshape(weights.shape)
