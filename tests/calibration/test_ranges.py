"""The ranges of each method against plain loops over the values."""

import numpy as np
import pytest
from tinymodel import random_images

from mlzsl.calibration.network import Network, open_network
from mlzsl.calibration.ranges import BINS, LEVELS, choose_bound, collect_ranges, entropy_bound
from mlzsl.cli.errors import FailureError

TENSORS = ("planes", "pooled", "sum_relu", "second")


class Bar:
    def __init__(self) -> None:
        self.done = 0

    def advance(self, count: int = 1) -> None:
        self.done += count


def batches():
    images = random_images(20, seed=2)
    return (images[first : first + 6] for first in range(0, 20, 6))


@pytest.fixture(scope="module")
def values(network: Network) -> dict[str, np.ndarray]:
    """All values of the tensors on the photos."""
    run = open_network(network.model, TENSORS, 1)
    parts = [run(images) for images in batches()]
    return {name: np.concatenate([part[index] for part in parts]).ravel() for index, name in enumerate(TENSORS)}


def found(network: Network, method: str) -> dict[str, tuple[float, float]]:
    return collect_ranges(network, TENSORS, method, batches, Bar(), 1)


def test_minmax_covers_the_smallest_and_the_largest_value(network, values):
    for name, bounds in found(network, "minmax").items():
        assert bounds == (values[name].min(), values[name].max())


def test_percentile_clips_one_magnitude_in_ten_thousand(network, values):
    for name, (low, high) in found(network, "percentile").items():
        magnitudes = np.abs(values[name][values[name] != 0])
        expected = np.quantile(magnitudes, 0.9999)
        bin_width = float(magnitudes.max()) / BINS
        assert max(-low, high) == pytest.approx(expected, abs=2 * bin_width)


def test_mse_has_the_smallest_squared_error_of_all_bounds(network, values):
    def squared_error(name: str, bound: float) -> float:
        magnitudes = np.abs(values[name])
        step = bound / (2 * LEVELS)
        return float(((np.minimum(np.rint(magnitudes / step) * step, bound) - magnitudes) ** 2).sum())

    for name, (low, high) in found(network, "mse").items():
        largest = np.abs(values[name]).max()
        errors = [squared_error(name, share * largest) for share in np.linspace(0.1, 1, 60)]
        assert squared_error(name, max(-low, high)) <= 1.05 * min(errors)


def divergence(counts: list[int], bins: int) -> float:
    """Kullback-Leibler divergence bin by bin, as in Migacz 2017."""
    P = [float(count) for count in counts[:bins]]
    P[-1] += sum(counts[bins:])
    Q = [0.0] * bins
    for level in range(LEVELS):
        members = [index for index in range(bins) if index * LEVELS // bins == level]
        filled = [index for index in members if counts[index]]
        for index in filled:
            Q[index] = sum(counts[member] for member in members) / len(filled)
    total = 0.0
    for p, q in zip(P, Q, strict=True):
        if p:
            total += p / sum(P) * np.log((p / sum(P)) / max(q / max(sum(Q), 1), 1e-12))
    return total


def test_entropy_has_the_smallest_divergence_of_all_bounds():
    rng = np.random.default_rng(0)
    counts = np.bincount(np.minimum(np.abs(rng.laplace(0, 90, 20_000)).astype(int), BINS - 1), minlength=BINS)
    candidates = range(LEVELS, BINS + 1, LEVELS // 8)
    expected = min(candidates, key=lambda bins: divergence(counts.tolist(), bins))
    assert entropy_bound(counts) == expected / BINS


@pytest.mark.parametrize("method", ["percentile", "entropy", "mse"])
def test_a_tensor_of_zeros_has_a_range(method):
    assert choose_bound(method, np.zeros(BINS, np.int64)) == 1.0


def test_ranges_lie_within_the_values(network, values):
    for method in ("mse", "entropy", "percentile"):
        for name, (low, high) in found(network, method).items():
            assert values[name].min() <= low <= 0 <= high <= values[name].max()


def test_progress_counts_every_photo_of_both_passes(network):
    bar = Bar()
    collect_ranges(network, TENSORS, "mse", batches, bar, 1)
    assert bar.done == 2 * 20


def test_a_tensor_with_nan_is_an_error_that_names_it(network):
    broken = Network(network.model)
    index = next(i for i, tensor in enumerate(broken.model.graph.initializer) if tensor.name == "stem.bias")
    array = np.array(broken.array("stem.bias"))
    array[0] = np.nan
    broken.model.graph.initializer[index].raw_data = array.tobytes()
    with pytest.raises(FailureError, match="tensor pooled of the network is NaN or infinite"):
        collect_ranges(broken, ["pooled"], "minmax", batches, Bar(), 1)
