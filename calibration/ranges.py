"""The ranges of a network's tensors on calibration photos: min-max, percentile, entropy, least squares.

Min-max takes every value seen. The others clip outliers and take the rest finer: percentile leaves out the largest
ten-thousandth of a tensor's magnitudes, entropy chooses the bound for which the quantized distribution of magnitudes
diverges least from the original one (Migacz, "8-bit inference with TensorRT", 2017), and mse the bound for which the
squares of rounding and clipping errors have the smallest sum.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from mlzsl.calibration.network import Network
from mlzsl.calibration.qdq import Range
from mlzsl.calibration.session import Run, open_network
from mlzsl.cli.errors import FailureError
from mlzsl.cli.progress import Progress
from mlzsl.engines.artifact.modelfile import Images

BINS = 2048  # of a histogram of magnitudes
LEVELS = 128  # of an 8-bit magnitude
PERCENTILE = 99.99

Counts = npt.NDArray[np.int64]  # [BINS]
Batches = Callable[[], Iterable[Images]]  # the same batches each time that it is called
METHODS = ("mse", "entropy", "percentile", "minmax")


def collect_ranges(
    network: Network, tensors: Sequence[str], method: str, batches: Batches, bar: Progress, threads: int | None = None
) -> dict[str, Range]:
    """Run the network on photos and bound the values of some of its tensors.

    Args:
        network: in fp32.
        tensors: whose ranges.
        method: one of METHODS.
        batches: gives the photos, uint8 [n, S, S, 3]; called once for min-max, else twice.
        bar: told of every photo, each time that it is run.
        threads: CPU threads at most.

    Raises:
        FailureError: a tensor holds NaN or infinity.
    """
    run = open_network(network.model, tensors, threads)
    lows, highs = np.full(len(tensors), np.inf), np.full(len(tensors), -np.inf)
    for images in batches():
        for place, values in enumerate(run(images)):
            lows[place] = min(lows[place], values.min())  # a NaN among the values is one here
            highs[place] = max(highs[place], values.max())
        bar.advance(len(images))
    broken = [name for name, low, high in zip(tensors, lows, highs, strict=True) if not np.isfinite(high - low)]
    if broken:
        raise FailureError(f"tensor {broken[0]} of the network is not finite on these photos; the model is broken.")
    bounds = np.maximum(-lows, highs)
    if method != "minmax":
        counts = _count_magnitudes(run, bounds, batches, bar)
        bounds *= [BOUND[method](row) for row in counts]
    return {
        name: (float(max(low, -bound)), float(min(high, bound)))
        for name, low, high, bound in zip(tensors, lows, highs, bounds, strict=True)
    }


def _count_magnitudes(run: Run, largest: npt.NDArray[np.float64], batches: Batches, bar: Progress) -> list[Counts]:
    """A histogram over [0, largest] of each tensor's magnitudes, zeros left out: every scale has them exactly."""
    counts = [np.zeros(BINS, np.int64) for _ in largest]
    for images in batches():
        for row, bound, values in zip(counts, largest, run(images), strict=True):
            bins = np.abs(values).reshape(-1)
            bins *= np.float32(BINS / max(bound, np.finfo(np.float32).tiny))
            row += np.bincount(np.minimum(bins, BINS - 1).astype(np.int32), minlength=BINS)
            row[0] -= bins.size - np.count_nonzero(bins)
        bar.advance(len(images))
    return counts


def percentile_bound(counts: Counts) -> float:
    """The share of the histogram's range below which PERCENTILE percent of the magnitudes lie."""
    if not counts.any():
        return 1.0
    reached = np.searchsorted(np.cumsum(counts), PERCENTILE / 100 * counts.sum())
    return float(min(reached + 1, BINS) / BINS)


def entropy_bound(counts: Counts) -> float:
    """The share of the histogram's range where clipping loses least information.

    For every bound, P is the histogram clipped there, and Q what is left of it with LEVELS levels: the counts of the
    bins that share a level are spread evenly over those of them that are not empty. The bound with the smallest
    Kullback-Leibler divergence Σ P log(P/Q) is taken.
    """
    if not counts.any():
        return 1.0
    candidates = range(LEVELS, BINS + 1, LEVELS // 8)
    divergences = [_divergence(counts, bins) for bins in candidates]
    return candidates[int(np.argmin(divergences))] / BINS


def _divergence(counts: Counts, bins: int) -> float:
    kept = counts[:bins].astype(np.float64)
    clipped = kept.copy()
    clipped[-1] += counts[bins:].sum()
    level = np.arange(bins) * LEVELS // bins
    filled = kept > 0
    sums = np.bincount(level, weights=kept, minlength=LEVELS)
    widths = np.bincount(level, weights=filled, minlength=LEVELS)
    spread = np.where(filled, (sums / np.maximum(widths, 1))[level], 0.0)
    P, Q = clipped / clipped.sum(), spread / max(spread.sum(), 1.0)
    here = P > 0
    return float((P[here] * np.log(P[here] / np.maximum(Q[here], 1e-12))).sum())


def mse_bound(counts: Counts) -> float:
    """The share of the histogram's range where the squared errors of rounding and of clipping add up to least.

    Rounding to n steps within a bound b errs by (b / n)² / 12 in the mean square, clipping by the distance. n is that
    of a uint8 behind a Relu, what most tensors are.
    """
    if not counts.any():
        return 1.0
    values = (np.arange(BINS) + 0.5) / BINS
    bounds = np.arange(BINS // 16, BINS + 1, BINS // 128) / BINS
    rounding = (bounds / (2 * LEVELS)) ** 2 / 12
    clipped = np.maximum(values - bounds[:, None], 0)  # bounds, bins
    errors = (counts * np.where(clipped > 0, clipped**2, rounding[:, None])).sum(axis=1)
    return float(bounds[np.argmin(errors)])


BOUND: dict[str, Callable[[Counts], float]] = {
    "mse": mse_bound,
    "entropy": entropy_bound,
    "percentile": percentile_bound,
}
