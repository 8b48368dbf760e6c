"""The bootstrap: metrics of resamples equal those of repeated photos, and intervals have their nominal coverage."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlzsl.cli.errors import FailureError
from mlzsl.metrics.intervals import bootstrap_interval, bootstrap_metrics, resampled_metrics
from mlzsl.metrics.summary import METRIC_NAMES, chance_metrics, compute_metrics

SEEN = np.array([True, True, True, False, False, False, False])
Scored = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]


def photos(generator: np.random.Generator, count: int, rates: tuple[float, ...], levels: int | None = None) -> Scored:
    """Scores that know something of the targets, rounded to `levels` so that they tie, and targets."""
    targets = generator.random((count, len(rates))) < np.array(rates)
    scores = generator.normal(size=targets.shape) + 1.2 * targets
    if levels:
        scores = np.round(scores * levels) / levels
    return scores.astype(np.float32), targets


@given(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from([None, 1, 3]))
def test_counts_equal_metrics_of_repeated_photos(seed: int, count: int, levels: int | None) -> None:
    generator = np.random.default_rng(seed)
    scores, targets = photos(generator, count, (0.5, 0.2, 0.1, 0.4, 0.2, 0.05, 0.0), levels)
    draws = np.stack([np.bincount(generator.integers(count, size=count), minlength=count) for _ in range(4)])
    values = resampled_metrics(scores, targets, SEEN, draws)
    assert tuple(values) == METRIC_NAMES
    for row, times in enumerate(draws):
        repeated = compute_metrics(np.repeat(scores, times, axis=0), np.repeat(targets, times, axis=0), SEEN)
        for name in METRIC_NAMES:
            assert values[name][row] == pytest.approx(repeated[name], abs=1e-12, nan_ok=True), name


def test_resamples_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, targets = photos(np.random.default_rng(1), 40, (0.3,) * 7)
    whole = bootstrap_metrics(scores, targets, SEEN, 30, seed=5)
    monkeypatch.setattr("mlzsl.metrics.intervals.MAX_COUNTS", 7 * 40)
    parts = bootstrap_metrics(scores, targets, SEEN, 30, seed=5)
    assert all(np.allclose(whole[name], parts[name], rtol=0, atol=1e-12) for name in METRIC_NAMES)
    other = bootstrap_metrics(scores, targets, SEEN, 30, seed=6)
    assert not np.array_equal(whole["unseen mAP"], other["unseen mAP"])


def test_intervals_contain_the_expected_value_at_their_nominal_rate() -> None:
    generator = np.random.default_rng(0)
    rates = (0.3, 0.1, 0.03, 0.3, 0.1, 0.03, 0.02)
    names = ("seen mAP", "unseen mAP", "unseen miAP", "generalized F1@3")
    samples = [compute_metrics(*photos(generator, 120, rates), SEEN) for _ in range(300)]
    expected = {name: np.mean([sample[name] for sample in samples]) for name in names}
    held = dict.fromkeys(names, 0)
    for seed in range(100):
        scores, targets = photos(generator, 120, rates)
        level, values = compute_metrics(scores, targets, SEEN), bootstrap_metrics(scores, targets, SEEN, 100, seed)
        for name in names:
            low, high = bootstrap_interval(level[name], values[name])
            assert low < level[name] < high
            held[name] += bool(low <= expected[name] <= high)
    assert min(held.values()) >= 85, held


def test_undefined_metrics_have_no_interval() -> None:
    scores, targets = photos(np.random.default_rng(1), 20, (0.3,) * 7)
    targets[:, ~SEEN] = False
    values = bootstrap_metrics(scores, targets, SEEN, 10, seed=0)
    for name in ("unseen mAP", "unseen miAP", "conventional F1@5"):
        assert np.isnan(values[name]).all()
        assert all(math.isnan(end) for end in bootstrap_interval(math.nan, values[name]))
    assert not np.isnan(values["seen mAP"]).any()


def test_nan_scores_are_refused() -> None:
    scores, targets = photos(np.random.default_rng(1), 20, (0.3,) * 7)
    scores[3, 2] = np.nan
    with pytest.raises(FailureError, match="hold NaN"):
        bootstrap_metrics(scores, targets, SEEN, 10, seed=0)


def test_chance_is_what_random_scores_reach() -> None:
    generator = np.random.default_rng(3)
    _, targets = photos(generator, 60, (0.3, 0.1, 0.2, 0.3, 0.1, 0.2, 0.1))
    trials = [compute_metrics(generator.random(targets.shape), targets, SEEN) for _ in range(400)]
    for name, level in chance_metrics(targets, SEEN).items():
        assert level == pytest.approx(np.mean([trial[name] for trial in trials]), abs=0.01), name
