"""Ridge regression in closed form and logistic regression by Newton's method, in float64."""

from dataclasses import dataclass

import torch
from torch import Tensor

PENALTIES = [10 ** (step / 2) for step in range(13)]  # λ, from 1 to 10⁶, for standardized features
NEWTON_STEPS, SMALLEST_STEP, SMALLEST_GAIN = 50, 2**-20, 1e-10


@dataclass(frozen=True)
class Ridge:
    """A ridge regression of several targets on features.

    Attributes:
        weight: float64 [F, S], of the unscaled features.
        bias: float64 [S].
        left_out: float64 [n, S], the prediction for each photo by a fit to all other photos.
        penalty: λ, the one of `PENALTIES` with the smallest mean-square error of `left_out`.
    """

    weight: Tensor
    bias: Tensor
    left_out: Tensor
    penalty: float


def fit_ridge(features: Tensor, targets: Tensor) -> Ridge:
    """Regress targets on standardized features; the bias is not penalized.

    Leaving a photo out needs no second fit: its residual is that of the fit to all photos over 1 − h, with h its
    leverage (Cook and Weisberg, "Residuals and Influence in Regression", 1982).

    Args:
        features: float [n, F].
        targets: float [n, S].
    """
    features, targets = features.double(), targets.double()
    mean, std = features.mean(dim=0), features.std(dim=0, correction=0).clamp_min(1e-6)
    X, target_mean = (features - mean) / std, targets.mean(dim=0)
    Y = targets - target_mean
    U, squares, directions = _thin_svd(X)
    along = U.T @ Y  # (r, S)

    def left_out(penalty: float) -> Tensor:
        shrunk = squares / (squares + penalty)
        leverage = U.square() @ shrunk + 1 / len(X)
        return targets - (Y - U @ (shrunk[:, None] * along)) / (1 - leverage).clamp_min(1e-6)[:, None]

    penalty = min(PENALTIES, key=lambda each: float((targets - left_out(each)).square().mean()))
    weight = directions @ ((squares.sqrt() / (squares + penalty))[:, None] * along) / std[:, None]
    return Ridge(weight, target_mean - mean @ weight, left_out(penalty), penalty)


def _thin_svd(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """X = U diag(√squares) Vᵀ -> U (n, r), squares (r,), V (F, r), from the smaller of XXᵀ and XᵀX."""
    wide = X.shape[0] < X.shape[1]
    squares, vectors = torch.linalg.eigh(X @ X.T if wide else X.T @ X)
    kept = squares > squares.amax() * 1e-12
    squares, vectors = squares[kept], vectors[:, kept]
    others = (X.T if wide else X) @ vectors / squares.sqrt()
    return (vectors, squares, others) if wide else (others, squares, vectors)


def fit_logistic(channels: Tensor, targets: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Fit a logistic regression by Newton's method; its loss is convex.

    Args:
        channels: float [m, c]; standardized for the fit.
        targets: 0 or 1, float [m].
        penalty: weight of half the sum of squared weights, added to the mean cross-entropy; the bias is not penalized.

    Returns:
        weights [c] and bias [1] of the unscaled channels, float64.
    """
    channels, targets = channels.double(), targets.double()
    mean, std = channels.mean(dim=0), channels.std(dim=0, correction=0).clamp_min(1e-6)
    X = torch.cat([(channels - mean) / std, channels.new_ones(len(channels), 1)], dim=1)
    penalties = X.new_full((X.shape[1],), penalty)
    penalties[-1] = 1e-9  # keeps the bias finite where all targets are equal

    def loss(w: Tensor) -> Tensor:
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(X @ w, targets)
        return entropy + (penalties * w.square()).sum() / 2

    w = X.new_zeros(X.shape[1])
    w[-1] = torch.logit(targets.mean(), eps=1e-6)
    current = loss(w)
    for _ in range(NEWTON_STEPS):
        p = (X @ w).sigmoid()
        gradient = X.T @ (p - targets) / len(X) + penalties * w
        hessian = X.T @ (X * (p * (1 - p))[:, None]) / len(X) + penalties.diag()
        direction, step = torch.linalg.solve(hessian, gradient), 1.0
        while loss(w - step * direction) > current and step > SMALLEST_STEP:
            step /= 2
        w = w - step * direction
        previous, current = current, loss(w)
        if previous - current < SMALLEST_GAIN:
            break
    weights = w[:-1] / std
    return weights, w[-1:] - (weights * mean).sum()
