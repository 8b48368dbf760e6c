"""What repeated measurements say: medians with their spread, latency percentiles, and ratios round by round."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing.

    Attributes:
        median: of the measurements.
        low, high: the least and the largest of them.
    """

    median: float
    low: float
    high: float


def spread(measurements: Sequence[float]) -> Spread:
    """The median of at least one measurement, with the least and the largest."""
    return Spread(statistics.median(measurements), min(measurements), max(measurements))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """How many times theirs ours are.

    The ratio is taken within each round, where both ran right after each other, and then summarized: other work on the
    machine that slows a whole round changes no ratio.

    Args:
        ours, theirs: rates, one a round, in the order of the rounds.
    """
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


@dataclass(frozen=True)
class Latency:
    """How long batches took, in seconds.

    Attributes:
        batches: how many were measured; of fewer than a hundred, p99 is hardly more than the slowest.
        p50, p90, p99: percentiles, interpolated linearly.
    """

    batches: int
    p50: float
    p90: float
    p99: float


def latency(seconds: Sequence[float]) -> Latency:
    """The percentiles of at least one batch's latencies."""
    return Latency(len(seconds), *(float(value) for value in np.percentile(seconds, PERCENTILES)))
