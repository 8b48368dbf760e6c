"""Statistics of repeated measurements: median with range, latency percentiles, ratios within each repeat."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of repeated measurements."""

    median: float
    low: float
    high: float


def spread(measurements: Sequence[float]) -> Spread:
    """Summarize at least one measurement."""
    return Spread(statistics.median(measurements), min(measurements), max(measurements))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """The ratio of our rates to theirs.

    It is taken within each repeat, where both ran one right after the other, and then summarized: other work on the
    machine that slows a whole repeat changes no ratio.

    Args:
        ours, theirs: rates, one a repeat, in the same order.
    """
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


@dataclass(frozen=True)
class Latency:
    """How long batches took.

    Attributes:
        batches: how many were measured; with fewer than a hundred, p99 is close to the maximum.
        p50, p90, p99: percentiles in seconds, interpolated linearly.
    """

    batches: int
    p50: float
    p90: float
    p99: float


def latency(seconds: Sequence[float]) -> Latency:
    """The percentiles of at least one batch's latency."""
    return Latency(len(seconds), *(float(value) for value in np.percentile(seconds, PERCENTILES)))
