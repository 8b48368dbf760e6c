"""Compares mlzsl with other ways to tag: the same photos and weights, interleaved, in one run."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from mlzsl.cli.errors import FailureError
from mlzsl.cli.progress import progress
from mlzsl.engines.artifact.modelfile import Images
from mlzsl.imaging import Preprocessing
from mlzsl.runtime.bench.baselines import Baseline, Comparison, Skipped, first_manifest, open_baselines
from mlzsl.runtime.bench.load import Clock
from mlzsl.runtime.bench.statistics import Spread, ratios, spread
from mlzsl.runtime.report import print_line, rate, table
from mlzsl.runtime.tagging.pipeline import ReadableBatches

REFERENCES = ("PyTorch eager fp32, DataLoader", "ONNX Runtime fp32, Pillow")  # the first that runs is the reference


@dataclass(frozen=True)
class BaselineResult:
    """How one baseline performed.

    Attributes:
        name: of the baseline.
        photos_per_second: from files to scores.
        speedup: the first baseline's rate over this one's, within each repeat.
        difference: largest difference of a score from the reference, on the same decoded images.
    """

    name: str
    photos_per_second: Spread
    speedup: Spread
    difference: float


@dataclass(frozen=True)
class ComparisonResult:
    """A whole comparison.

    Attributes:
        photos: how many in each repeat.
        batch_size: photos per batch.
        repeats: measurements of each baseline.
        reference: the baseline whose scores the others' are compared with.
        baselines: the results, in order.
        skipped: what did not run, and why.
    """

    photos: int
    batch_size: int
    repeats: int
    reference: str
    baselines: tuple[BaselineResult, ...]
    skipped: tuple[Skipped, ...]


def compare_on_photos(
    comparison: Comparison, paths: Sequence[str], repeats: int, quiet: bool = False
) -> ComparisonResult:
    """Open every baseline that runs here and compare them on photos; unreadable ones are left out.

    Raises:
        UsageError: as `open_baselines`.
        FailureError: not one photo can be read.
    """
    baselines, skipped = open_baselines(comparison)
    preprocessing = Preprocessing.from_json(first_manifest(comparison).preprocessing)
    batches = ReadableBatches(paths, preprocessing, comparison.batch_size, comparison.threads)
    images = None
    for batch in batches.images():
        images = batch if images is None else images
    if images is None:
        raise FailureError(f"none of the {len(paths)} photos could be read; nothing was compared.")
    return compare(baselines, skipped, batches.readable(paths), images, comparison.batch_size, repeats, quiet)


def compare(
    baselines: Sequence[Baseline],
    skipped: Sequence[Skipped],
    paths: Sequence[str],
    images: Images,
    batch_size: int,
    repeats: int,
    quiet: bool = False,
    clock: Clock = time.perf_counter,
) -> ComparisonResult:
    """Run every baseline on all photos, `repeats` times, interleaved, after a warm-up of each.

    Args:
        baselines: at least one; the others are compared with the first.
        skipped: what does not run.
        paths: readable image files, at least one.
        images: some of them decoded, uint8 [n, S, S, 3].
        batch_size: photos per batch of the baselines.
        repeats: measurements of each.
        quiet: show no progress.
        clock: returns seconds, from any start.
    """
    warm_up = list(paths[: batch_size + len(paths) % batch_size])  # both sizes of batches
    rates: list[list[float]] = [[] for _ in baselines]
    with progress("comparing", (repeats + 1) * len(baselines), "runs", quiet) as bar:
        for repeat in range(repeats + 1):
            for baseline, measured in zip(baselines, rates, strict=True):
                start = clock()
                baseline.tag(paths if repeat else warm_up)
                if repeat:
                    measured.append(len(paths) / (clock() - start))
                bar.advance(note=baseline.name)
    reference = next((found for name in REFERENCES for found in baselines if found.name == name), baselines[0])
    expected = reference.scores(images)
    results = tuple(
        BaselineResult(
            baseline.name,
            spread(measured),
            ratios(rates[0], measured),
            float(np.abs(baseline.scores(images) - expected).max()),
        )
        for baseline, measured in zip(baselines, rates, strict=True)
    )
    return ComparisonResult(len(paths), batch_size, repeats, reference.name, results, tuple(skipped))


def print_comparison(result: ComparisonResult, console: Console, targets: dict[str, float] | None = None) -> None:
    """Print a row for each baseline, and why others did not run.

    Args:
        result: of the comparison.
        console: where to.
        targets: the intended speed-up, by baseline; None shows no such column.
    """
    photos = f"{result.photos:,} photos in batches of {result.batch_size}"
    print_line(console, f"From files to scores: {photos}, median of {result.repeats} interleaved repeats")
    rows = (
        (
            found.name,
            rate(found.photos_per_second.median),
            f"{found.speedup.median:.2f}",
            f"{found.speedup.low:.2f}–{found.speedup.high:.2f}",
            "" if found.name == result.reference else f"{found.difference:.0e}",
            f"≥ {targets[found.name]:g}" if targets and found.name in targets else "",
        )[: 6 if targets else 5]
        for found in result.baselines
    )
    headings = ("", "photos/s", "speed-up", "range", "difference", *(["target"] if targets else []))
    console.print(table(headings, rows))
    print_line(
        console,
        f"speed-up: rate of the first over this one's; difference: largest of a score from {result.reference}",
    )
    for skipped in result.skipped:
        print_line(console, f"skipped: {skipped.name}: {skipped.reason}")
