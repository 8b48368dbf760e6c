"""Ranges of a network's tensors on calibration photos, and the calibration record that keeps them.

`minmax` covers every value. The others clip outliers for a finer resolution: `percentile` clips the largest 0.01 % of a
tensor's magnitudes, `entropy` minimizes the Kullback-Leibler divergence of the quantized from the original distribution
of magnitudes (Migacz, "8-bit inference with TensorRT", 2017), and `mse` the squared errors of rounding and clipping.
"""

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from mlzsl.calibration.network import Network, Run, open_network
from mlzsl.calibration.qdq import Range
from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.json_decoding import Count, Finite, Sha256, read_json
from mlzsl.cli.outputs import written_atomically
from mlzsl.cli.progress import Progress
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images

BINS = 2048  # of the histogram of magnitudes
LEVELS = 128  # of an 8-bit magnitude
PERCENTILE = 99.99

Counts = npt.NDArray[np.int64]  # [BINS]
Batches = Callable[[], Iterable[Images]]  # returns the same batches on every call
Method = Literal["mse", "entropy", "percentile", "minmax"]
METHODS: tuple[Method, ...] = get_args(Method)

SUFFIX = ".calibration.json"
MAX_BYTES = 64 * 2**20
REMEDY = "calibrate again, without --record"
NAMES = {"photos": "number of photos", "data_sha256": "photos' SHA-256"}  # of fields, in sentences


def collect_ranges(
    network: Network, tensors: Sequence[str], method: str, batches: Batches, bar: Progress, threads: int | None = None
) -> dict[str, Range]:
    """Run the network on photos and choose the ranges of some of its tensors.

    Args:
        network: in fp32.
        tensors: names of the tensors.
        method: one of METHODS.
        batches: returns the photos, uint8 [n, S, S, 3]; called once for min-max, else twice.
        bar: advanced by every photo, each time that it is run.
        threads: CPU threads at most.

    Raises:
        FailureError: a tensor holds NaN or infinity.
    """
    run = open_network(network.model, tensors, threads)
    lows, highs = np.full(len(tensors), np.inf), np.full(len(tensors), -np.inf)
    for images in batches():
        outputs = run(images)
        lows = np.minimum(lows, [values.min() for values in outputs])  # NaN stays NaN
        highs = np.maximum(highs, [values.max() for values in outputs])
        bar.advance(len(images))
    broken = [name for name, low, high in zip(tensors, lows, highs, strict=True) if not np.isfinite(high - low)]
    if broken:
        raise FailureError(
            f"tensor {broken[0]} of the network is NaN or infinite on these photos; export the model again."
        )
    bounds = np.maximum(-lows, highs)
    if method != "minmax":
        bounds *= [choose_bound(method, row) for row in _count_magnitudes(run, bounds, batches, bar)]
    return {
        name: (float(max(low, -bound)), float(min(high, bound)))
        for name, low, high, bound in zip(tensors, lows, highs, bounds, strict=True)
    }


def _count_magnitudes(run: Run, largest: npt.NDArray[np.float64], batches: Batches, bar: Progress) -> list[Counts]:
    """Histogram over [0, largest] of each tensor's magnitudes, without zeros, which every scale represents exactly."""
    counts = [np.zeros(BINS, np.int64) for _ in largest]
    for images in batches():
        for row, bound, values in zip(counts, largest, run(images), strict=True):
            bins = np.abs(values).reshape(-1)
            bins *= np.float32(BINS / max(bound, np.finfo(np.float32).tiny))
            row += np.bincount(np.minimum(bins, BINS - 1).astype(np.int32), minlength=BINS)
            row[0] -= bins.size - np.count_nonzero(bins)
        bar.advance(len(images))
    return counts


def choose_bound(method: str, counts: Counts) -> float:
    """The fraction of the histogram's range that a method keeps; 1 for a tensor of zeros."""
    return BOUND[method](counts) if counts.any() else 1.0


def percentile_bound(counts: Counts) -> float:
    """The fraction of the histogram's range below which PERCENTILE percent of the magnitudes lie."""
    reached = np.searchsorted(np.cumsum(counts), PERCENTILE / 100 * counts.sum())
    return float(min(reached + 1, BINS) / BINS)


def entropy_bound(counts: Counts) -> float:
    """The fraction of the histogram's range at which clipping has the smallest Kullback-Leibler divergence.

    For every bound, P is the histogram clipped there, and Q its quantization to LEVELS levels: the counts of the bins
    of a level are spread evenly over its non-empty bins. The divergence is Σ P log(P/Q).
    """
    candidates = range(LEVELS, BINS + 1, LEVELS // 8)
    return min(candidates, key=lambda bins: _divergence(counts, bins)) / BINS


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
    positive = P > 0
    return float((P[positive] * np.log(P[positive] / np.maximum(Q[positive], 1e-12))).sum())


def mse_bound(counts: Counts) -> float:
    """The fraction of the histogram's range with the smallest sum of squared rounding and clipping errors.

    Rounding to n levels within a bound b has a mean squared error of (b / n)² / 12, clipping the squared distance. n is
    that of uint8 after a Relu, as most tensors are.
    """
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


class Record(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The result of one calibration.

    Attributes:
        format: name and version of the format.
        model_sha256: the fp32 file's `network_sha256`.
        preprocessing: of the photos, as in the manifest.
        method: how ranges were chosen, one of METHODS.
        photos: number of photos.
        seed: of the choice of photos.
        data_sha256: of the photos' images in order.
        ranges: lowest and highest value of every tensor that a QDQ scheme quantizes.
    """

    format: Literal["mlzsl calibration 1"] = "mlzsl calibration 1"
    model_sha256: Sha256
    preprocessing: dict[str, Any]
    method: Method
    photos: Count
    seed: Count
    data_sha256: Sha256
    ranges: Annotated[dict[str, tuple[Finite, Finite]], Meta(max_length=100_000)]

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            if low > high:
                raise ValueError(f"the range of {name} is {low:g} to {high:g}, expected low ≤ high")


def write_record(path: Path, record: Record) -> None:
    """Write a record atomically."""
    with written_atomically(path) as temporary:
        temporary.write_text(
            json.dumps(msgspec.to_builtins(record), indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )


def read_record(path: Path) -> Record:
    """Read a record that need not be trusted.

    Raises:
        UsageError: it is missing, or not a calibration record; the sentence names the field.
    """
    return read_json(path, Record, REMEDY, MAX_BYTES)


def check_record(
    path: Path, record: Record, model: Path, manifest: Manifest, asked: dict[str, object], tensors: Collection[str]
) -> None:
    """Refuse a record of another model or of other settings.

    Args:
        path: the record's.
        record: its content.
        model: the fp32 model file.
        manifest: the model's.
        asked: fields of the record that are decided already, with the values that they must have.
        tensors: names of the tensors whose ranges are needed.

    Raises:
        UsageError: the sentence names the field that differs.
    """
    if record.model_sha256 != manifest.network_sha256:
        raise UsageError(
            f"--record {path}: is of another model (network SHA-256 {record.model_sha256[:12]}…, and {model} has "
            f"{manifest.network_sha256[:12]}…); {REMEDY}."
        )
    for name, wanted in {"preprocessing": manifest.preprocessing, **asked}.items():
        found = getattr(record, name)
        if found != wanted:
            raise UsageError(
                f"--record {path}: its {NAMES.get(name, name)} is {_short(found)}, expected {_short(wanted)} as now; "
                f"use the same, or {REMEDY}."
            )
    missing = sorted(set(tensors) - record.ranges.keys())
    if missing:
        raise UsageError(
            f"--record {path}: lacks the ranges of {len(missing)} tensors, such as {missing[0]}; {REMEDY}."
        )


def _short(value: object) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else str(value)
