"""Figure 3 drawn: levels over a setting, with their intervals, and the number of edges behind them."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from mlzsl.cli.outputs import written_atomically
from mlzsl.train.experiments.experiment import Level

MARKERS = "osD^"
TITLE_WIDTH = 100  # letters a line


def plot_levels(
    path: Path,
    title: str,
    axis: str,
    values: Sequence[float],
    levels: dict[str, list[Level]],
    edges: Sequence[int] | None = None,
) -> None:
    """Draw one line a measure, with bars of the interval (or, without one, the deviation), as a picture.

    Args:
        path: the picture to write; its suffix chooses the format (.png, .svg, .pdf).
        title: above the plot; line by line, long ones are broken.
        axis: what `values` are.
        values: of the setting, where points stand.
        levels: by measure, one a value.
        edges: one a value, drawn as bars on an axis of their own; None for none.

    Raises:
        FailureError: the file system refuses.
    """
    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    plot = figure.subplots()
    for marker, (name, points) in zip(MARKERS, levels.items(), strict=False):
        means = [point.mean for point in points]
        plot.errorbar(values, means, yerr=_bars(points), marker=marker, capsize=3, label=name)
    plot.set_xlabel(axis)
    plot.set_ylabel(" / ".join(levels))
    plot.set_xticks(values)
    plot.grid(alpha=0.3)
    if edges is not None:
        counts = plot.twinx()
        width = 0.5 * min((b - a for a, b in zip(sorted(values), sorted(values)[1:], strict=False)), default=0.1)
        counts.bar(values, edges, width, color="0.85", label="edges")
        counts.set_ylabel("edges")
        counts.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        plot.set_zorder(counts.get_zorder() + 1)  # lines before bars
        plot.patch.set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(levels) + 1)
    lines = [broken for line in title.splitlines() for broken in textwrap.wrap(line, TITLE_WIDTH)]
    plot.set_title("\n".join(lines), fontsize=7, loc="left")
    with written_atomically(path) as temporary:
        figure.savefig(temporary)


def _bars(points: list[Level]) -> list[list[float]]:
    """How far a bar goes below and above each point, at least 0: an interval need not hold the mean."""
    below, above = [], []
    for point in points:
        deviation = 0.0 if math.isnan(point.deviation) else point.deviation
        below.append(deviation if math.isnan(point.low) else max(point.mean - point.low, 0.0))
        above.append(deviation if math.isnan(point.high) else max(point.high - point.mean, 0.0))
    return [below, above]
