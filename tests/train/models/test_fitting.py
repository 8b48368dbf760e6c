"""Regressions against scikit-learn, and leave-one-out predictions against fits without the photo."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as PeerRidge

from mlzsl.train.models.fitting import PENALTIES, fit_logistic, fit_ridge


def photos(count: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of different scales, and three labels that depend on them, with noise; float64."""
    generator = torch.Generator().manual_seed(count)
    features = torch.randn(count, width, generator=generator, dtype=torch.float64) * torch.linspace(0.1, 5, width) + 2
    noise = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return features, (features[:, :3] + noise > 2.5).double()


def standardized(features: torch.Tensor) -> np.ndarray:
    return ((features - features.mean(dim=0)) / features.std(dim=0, correction=0)).numpy()


@pytest.mark.parametrize(("count", "width"), [(60, 8), (20, 50)])
def test_ridge_equals_scikit_learn_with_more_and_with_fewer_photos_than_features(count: int, width: int) -> None:
    features, targets = photos(count, width)
    ridge = fit_ridge(features, targets)
    assert ridge.penalty in PENALTIES
    peer = PeerRidge(alpha=ridge.penalty).fit(standardized(features), targets.numpy())
    np.testing.assert_allclose(
        features @ ridge.weight + ridge.bias, peer.predict(standardized(features)), rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize(("count", "width"), [(60, 8), (20, 50)])
def test_left_out_predictions_equal_fits_to_all_other_photos(count: int, width: int) -> None:
    features, targets = photos(count, width)
    ridge = fit_ridge(features, targets)
    X = standardized(features)
    expected = np.empty((count, 3))
    for i in range(count):
        others = np.arange(count) != i
        expected[i] = PeerRidge(alpha=ridge.penalty).fit(X[others], targets[others].numpy()).predict(X[i : i + 1])[0]
    np.testing.assert_allclose(ridge.left_out, expected, rtol=1e-6, atol=1e-8)


def test_the_penalty_has_the_smallest_leave_one_out_error() -> None:
    features, targets = photos(20, 50)
    X, errors = standardized(features), []
    for penalty in PENALTIES:
        error = 0.0
        for i in range(20):
            others = np.arange(20) != i
            peer = PeerRidge(alpha=penalty).fit(X[others], targets[others].numpy())
            error += float(((peer.predict(X[i : i + 1])[0] - targets[i].numpy()) ** 2).sum())
        errors.append(error)
    assert fit_ridge(features, targets).penalty == PENALTIES[int(np.argmin(errors))]


def test_constant_features_and_labels_without_photos_give_finite_fits() -> None:
    features, targets = photos(30, 8)
    features[:, 2], targets[:, 1] = 7, 0
    ridge = fit_ridge(features, targets)
    assert torch.isfinite(ridge.left_out).all()
    assert (features @ ridge.weight + ridge.bias)[:, 1].abs().max() < 1e-9


@pytest.mark.parametrize("penalty", [1e-4, 0.01, 1.0])
def test_logistic_regression_equals_scikit_learn(penalty: float) -> None:
    features, targets = photos(200, 6)
    weights, offset = fit_logistic(features, targets[:, 0], penalty)
    peer = LogisticRegression(C=1 / (penalty * 200), tol=1e-12, max_iter=10_000)
    peer.fit(standardized(features), targets[:, 0].numpy())
    expected = peer.decision_function(standardized(features))
    np.testing.assert_allclose(features @ weights + offset, expected, rtol=0, atol=1e-4)


def test_logistic_regression_converges_on_separable_and_on_constant_labels() -> None:
    features, _ = photos(50, 4)
    for targets in ((features[:, 0] > 2).double(), torch.zeros(50, dtype=torch.float64)):
        weights, offset = fit_logistic(1e3 * features, targets, 1e-6)
        logits = 1e3 * features @ weights + offset
        assert torch.isfinite(logits).all()
        assert ((logits > 0) == targets.bool()).all()
