"""A benchmark as a picture: rate against batch size, and for several models what each pays in accuracy for its rate."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import written_atomically
from mlzsl.runtime.bench.benchmark import ModelBench
from mlzsl.runtime.verify.verify import RANKING

SUFFIXES = (".png", ".svg")
PANEL_INCHES, DOTS_PER_INCH = (6.4, 4.8), 150
MARKERS = {"seen mAP": "o", "unseen mAP": "^"}  # as certificates name them


@dataclass(frozen=True)
class Accuracy:
    """How well an engine ranks the true labels of photos, as its certificate says.

    Attributes:
        levels: measure, such as "unseen mAP", to points (hundredths of mAP).
        photos: how many they were measured on.
    """

    levels: dict[str, float]
    photos: int


def accuracy_of(bench: ModelBench) -> Accuracy | None:
    """The accuracy in the certificate of the engine that ran; None where it has none with true labels."""
    execution = bench.execution
    certificate = bench.manifest.certificate_for(execution.backend, execution.provider, execution.precision)
    for check in certificate.checks if certificate else ():
        if check.name == RANKING:
            found = {measure: check.value(measure) for measure in MARKERS}
            levels = {measure: value for measure, value in found.items() if value is not None}
            return Accuracy(levels, check.photos) if levels else None
    return None


def check_plot(path: Path) -> None:
    """Refuse a picture that could not be drawn, before anything is measured.

    Raises:
        UsageError: the suffix is of no format known here, or matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--plot {path}: is drawn as {' or '.join(SUFFIXES)}; name a file with one of these suffixes.")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(f"--plot {path}: matplotlib is not installed; run `pip install 'mlzsl[plot]'`.")


def draw_plot(benches: Sequence[ModelBench], path: Path) -> None:
    """Draw rates against batch sizes; beside it, where certificates tell, accuracy against the best rate.

    Args:
        benches: at least one model's.
        path: a .png or .svg, which `check_plot` has passed.

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
    with written_atomically(path) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH)


def _draw_rates(axes: Any, benches: Sequence[ModelBench]) -> None:
    """A line for each model and number in flight, bars from the slowest to the fastest turn."""
    sizes = sorted({measured.load.batch_size for bench in benches for measured in bench.loads})
    for bench in benches:
        for in_flight in sorted({measured.load.in_flight for measured in bench.loads}):
            line = sorted(
                (measured for measured in bench.loads if measured.load.in_flight == in_flight),
                key=lambda measured: measured.load.batch_size,
            )
            rates = [measured.photos_per_second for measured in line]
            axes.errorbar(
                [measured.load.batch_size for measured in line],
                [rate.median for rate in rates],
                yerr=(
                    [rate.median - rate.low for rate in rates],
                    [rate.high - rate.median for rate in rates],
                ),
                marker="o",
                capsize=3,
                label=f"{_name(bench)}, {in_flight} in flight",
            )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set(xlabel="batch size", ylabel="photos/s", title="Rate against batch size")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _draw_accuracies(axes: Any, accuracies: Sequence[tuple[ModelBench, Accuracy]]) -> None:
    for measure, marker in MARKERS.items():
        points = [(bench, accuracy.levels[measure]) for bench, accuracy in accuracies if measure in accuracy.levels]
        if not points:
            continue
        rates = [bench.fastest.photos_per_second.median for bench, _ in points]
        axes.scatter(rates, [level for _, level in points], marker=marker, label=measure)
        for rate, (bench, level) in zip(rates, points, strict=True):
            axes.annotate(
                bench.execution.precision, (rate, level), textcoords="offset points", xytext=(6, 4), fontsize="small"
            )
    photos = sorted({accuracy.photos for _, accuracy in accuracies})
    axes.set_xlim(0, 1.15 * max(bench.fastest.photos_per_second.median for bench, _ in accuracies))
    axes.margins(y=0.15)
    axes.set(
        xlabel="photos/s, the best load",
        ylabel="mAP, points",
        title=f"Accuracy on {' or '.join(f'{count:,}' for count in photos)} photos against rate",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _name(bench: ModelBench) -> str:
    return f"{bench.model.name}, {bench.execution.backend} {bench.execution.precision}"
