"""Linear models fitted in closed form or to their one optimum, in float64: no seed, no learning rate, no epoch."""

from dataclasses import dataclass

import torch
from torch import Tensor

PENALTIES = [10 ** (step / 2) for step in range(13)]  # λ, from 1 to 10⁶ on features of deviation 1
NEWTON_STEPS, SMALLEST_STEP, SMALLEST_GAIN = 50, 2**-20, 1e-10


@dataclass(frozen=True)
class Ridge:
    """A ridge regression of several targets on features.

    Attributes:
        weight: [F, S], of the features as they came.
        bias: [S].
        left_out: [n, S], what is predicted of each photo by a fit to all others.
        penalty: λ, that of `PENALTIES` which predicts left-out photos best.
    """

    weight: Tensor
    bias: Tensor
    left_out: Tensor
    penalty: float


def fit_ridge(features: Tensor, targets: Tensor) -> Ridge:
    """Regress targets on features, which are taken at mean 0 and deviation 1; the offset is not penalized.

    Leaving a photo out needs no second fit: its residual is that of the whole fit over 1 − h, h its leverage (Cook and
    Weisberg, "Residuals and Influence in Regression", 1982).

    Args:
        features: float [n, F].
        targets: float [n, S].
    """
    features, targets = features.double(), targets.double()
    mean, deviation = features.mean(dim=0), features.std(dim=0, correction=0).clamp_min(1e-6)
    X, level = (features - mean) / deviation, targets.mean(dim=0)
    Y = targets - level
    U, squares, directions = _thin_svd(X)
    along = U.T @ Y  # (r, S)

    def left_out(penalty: float) -> Tensor:
        shrunk = squares / (squares + penalty)
        leverage = U.square() @ shrunk + 1 / len(X)
        return targets - (Y - U @ (shrunk[:, None] * along)) / (1 - leverage).clamp_min(1e-6)[:, None]

    penalty = min(PENALTIES, key=lambda each: float((targets - left_out(each)).square().mean()))
    weight = directions @ ((squares.sqrt() / (squares + penalty))[:, None] * along) / deviation[:, None]
    return Ridge(weight, level - mean @ weight, left_out(penalty), penalty)


def _thin_svd(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """X = U diag(√squares) Vᵀ -> U (n, r), squares (r,), V (F, r), by way of the smaller of XXᵀ and XᵀX."""
    wide = X.shape[0] < X.shape[1]
    squares, vectors = torch.linalg.eigh(X @ X.T if wide else X.T @ X)
    kept = squares > squares.amax() * 1e-12
    squares, vectors = squares[kept], vectors[:, kept]
    others = (X.T if wide else X) @ vectors / squares.sqrt()
    return (vectors, squares, others) if wide else (others, squares, vectors)


def fit_logistic(channels: Tensor, targets: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """The weights and the offset of a logistic regression, which has one optimum; by Newton's method.

    Args:
        channels: float [m, c]; taken at mean 0 and deviation 1 while fitting.
        targets: 0 or 1, float [m].
        penalty: of half the sum of squared weights, beside the mean cross-entropy; the offset goes free.

    Returns:
        weights [c] and offset [1] of the channels as they came, float64.
    """
    channels, targets = channels.double(), targets.double()
    mean, deviation = channels.mean(dim=0), channels.std(dim=0, correction=0).clamp_min(1e-6)
    X = torch.cat([(channels - mean) / deviation, channels.new_ones(len(channels), 1)], dim=1)
    penalties = X.new_full((X.shape[1],), penalty)
    penalties[-1] = 1e-9  # where no label is carried, or all are, the offset stays finite

    def loss(w: Tensor) -> Tensor:
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(X @ w, targets)
        return entropy + (penalties * w.square()).sum() / 2

    w = X.new_zeros(X.shape[1])
    w[-1] = torch.logit(targets.mean(), eps=1e-6)
    reached = loss(w)
    for _ in range(NEWTON_STEPS):
        p = (X @ w).sigmoid()
        slope = X.T @ (p - targets) / len(X) + penalties * w
        curvature = X.T @ (X * (p * (1 - p))[:, None]) / len(X) + penalties.diag()
        direction, step = torch.linalg.solve(curvature, slope), 1.0
        while loss(w - step * direction) > reached and step > SMALLEST_STEP:
            step /= 2
        w = w - step * direction
        before, reached = reached, loss(w)
        if before - reached < SMALLEST_GAIN:
            break
    weights = w[:-1] / deviation
    return weights, w[-1:] - (weights * mean).sum()
