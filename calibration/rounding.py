"""Weights to whole numbers of steps, so that what a filter gives stays what it was.

Rounding each weight to the nearest step errs at random, and the errors of a filter's weights add up: a filter that
takes differences of neighbours then answers to brightness as well, which varies far more than the differences do. Where
it is known what a filter reads, the errors of its weights are made to cancel on that; where it is not, on flat patches.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Steps = npt.NDArray[np.float64]  # whole numbers

DAMPING = 0.01  # of the mean square of what a weight meets: few patches do not show everything
BLOCK = 128  # weights whose errors are passed on one by one, and then to all others at once


def rounded_keeping_sums(weights: Floats, largest: int) -> Steps:
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


def rounded_on_inputs(weights: Floats, moments: Floats, largest: int) -> Steps:
    """Round the weights of convolutions so that their outputs change little on patches like those seen.

    For each channel the q with a small (w - q)ᵀ H (w - q), H the moments, by the nearest-plane algorithm (Babai 1986;
    on networks GPTQ, Frantar et al. 2023): with H = RᵀR, R upper triangular, weights are rounded from the last to the
    first, each after it has taken over Σ_k R_jk / R_jj · (w_k - q_k) from those rounded before. Those that meet the
    largest inputs come first.

    Args:
        weights: in steps, [channels, ...].
        moments: [K, K], K weights a channel; a scale of its own does not matter.
        largest: magnitude in steps.

    Returns:
        Whole numbers in [-largest, largest], as float64 of the shape of `weights`.
    """
    squares = np.diag(moments).astype(np.float64)
    order = np.argsort(squares, kind="stable")
    H = moments[np.ix_(order, order)].astype(np.float64)
    H[np.diag_indices_from(H)] += DAMPING * squares.mean() + np.finfo(np.float32).tiny
    R = np.linalg.cholesky(H).T
    R /= np.diag(R)[:, None].copy()
    w = weights.reshape(len(weights), -1).astype(np.float64)[:, order]  # channels, K
    errors, steps = np.zeros_like(w), np.zeros_like(w)
    for end in range(w.shape[1], 0, -BLOCK):
        start = max(0, end - BLOCK)
        wanted = w[:, start:end] + errors[:, end:] @ R[start:end, end:].T
        for j in range(end - 1, start - 1, -1):
            taken_over = errors[:, j + 1 : end] @ R[j, j + 1 : end]
            steps[:, j] = np.clip(np.rint(wanted[:, j - start] + taken_over), -largest, largest)
            errors[:, j] = w[:, j] - steps[:, j]
    result = np.empty_like(steps)
    result[:, order] = steps
    return result.reshape(weights.shape)
