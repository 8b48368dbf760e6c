"""Plots benchmarks: rate against batch size, and for several models accuracy against rate."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import check_target, written_atomically
from mlzsl.runtime.bench.benchmark import Accuracy, ModelBench, accuracy_of

SUFFIXES = (".png", ".svg")
PANEL_INCHES, DOTS_PER_INCH = (6.4, 4.8), 150
MARKERS = {"seen mAP": "o", "unseen mAP": "^"}  # by the names in certificates


def check_plot(path: Path) -> None:
    """Refuse a plot that could not be drawn, before anything is measured.

    Raises:
        UsageError: the suffix is of no supported format, or matplotlib is not installed.
    """
    check_target("--plot", path, SUFFIXES, "bench.png")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(f"--plot {path}: matplotlib is not installed; run `pip install 'mlzsl[plot]'`.")


def draw_plot(benches: Sequence[ModelBench], path: Path) -> None:
    """Draw rate against batch size and, for certified engines, accuracy against the best rate.

    Args:
        benches: at least one model's.
        path: a .png or .svg, accepted by `check_plot`.

    Raises:
        FailureError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    accuracies = [(bench, accuracy) for bench in benches if (accuracy := accuracy_of(bench)) is not None]
    panels = 2 if accuracies else 1
    figure = Figure(figsize=(panels * PANEL_INCHES[0], PANEL_INCHES[1]), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _draw_rates(axes[0], benches)
    if accuracies:
        _draw_accuracies(axes[1], accuracies)
    for panel in axes:
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    with written_atomically(path) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH)


def _draw_rates(axes: Any, benches: Sequence[ModelBench]) -> None:
    """A line for each model and number in flight, error bars from the slowest to the fastest repeat."""
    for bench in benches:
        for in_flight in sorted({result.load.in_flight for result in bench.loads}):
            line = [result for result in bench.loads if result.load.in_flight == in_flight]
            line.sort(key=lambda result: result.load.batch_size)
            rates = [result.photos_per_second for result in line]
            axes.errorbar(
                [result.load.batch_size for result in line],
                [rate.median for rate in rates],
                yerr=([rate.median - rate.low for rate in rates], [rate.high - rate.median for rate in rates]),
                marker="o",
                capsize=3,
                label=f"{_name(bench)}, {in_flight} in flight",
            )
    sizes = sorted({result.load.batch_size for bench in benches for result in bench.loads})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set(xlabel="batch size", ylabel="photos/s", title="Rate against batch size")


def _draw_accuracies(axes: Any, accuracies: Sequence[tuple[ModelBench, Accuracy]]) -> None:
    for measure, marker in MARKERS.items():
        certified = [(bench, accuracy.points[measure]) for bench, accuracy in accuracies if measure in accuracy.points]
        positions = [(bench.fastest.photos_per_second.median, points) for bench, points in certified]
        if positions:
            axes.scatter(*zip(*positions, strict=True), marker=marker, label=measure)
        for position, (bench, _) in zip(positions, certified, strict=True):
            offset = {"textcoords": "offset points", "xytext": (6, 4), "fontsize": "small"}
            axes.annotate(bench.execution.precision, position, **offset)
    photos = sorted({accuracy.photos for _, accuracy in accuracies})
    axes.set_xlim(0, 1.15 * max(bench.fastest.photos_per_second.median for bench, _ in accuracies))
    axes.margins(y=0.15)
    title = f"Accuracy on {' or '.join(f'{count:,}' for count in photos)} photos against rate"
    axes.set(xlabel="photos/s, fastest load", ylabel="mAP, points", title=title)


def _name(bench: ModelBench) -> str:
    return f"{bench.model.name}, {bench.execution.backend} {bench.execution.precision}"
