"""Figure 3 of the paper on any data: the number of graph layers (a) and the WUP threshold (b) against miAP."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import written_atomically
from mlzsl.metrics.summary import METRIC_NAMES
from mlzsl.train.experiments.data import load_data
from mlzsl.train.experiments.experiment import Estimate, Experiment, Variant, check_models, run_all
from mlzsl.train.experiments.report import Report, estimate_fields, estimates_json, title, write_csv
from mlzsl.train.models.registry import MODELS, settings_of

AXES = {"layers": "RGCN layers", "threshold": "WUP threshold"}
PLOTTED = ("seen miAP", "unseen miAP")  # as in the paper
TITLE_WIDTH = 100  # characters per line


def make_figure3(
    experiment: Experiment, folder: Path, setting: str, values: Sequence[float], quiet: bool = False
) -> Report:
    """Train and test the job's model with each value of a setting, and write SETTING.csv and SETTING.png.

    Args:
        experiment: data, model, settings, seeds, folds.
        folder: created if missing.
        setting: "layers" for figure 3(a), "threshold" for figure 3(b).
        values: of the setting, all different.
        quiet: show no progress.

    Raises:
        UsageError: an invalid name, file, folder or value, or a model without layers.
        FailureError: a training diverged, or a file cannot be written.
    """
    model = experiment.job.model
    check_models(
        [model], [name for name in MODELS if setting == "threshold" or setting in settings_of(name)], "--model"
    )
    if not values or len(set(values)) < len(values):
        raise UsageError(f"--values {','.join(map(str, values))}: expected different numbers.")
    data = load_data(experiment.job, experiment.folds, quiet)
    jobs = [replace(experiment.job_of(model), **{setting: value}) for value in values]  # type: ignore[arg-type]
    graphs = {threshold: data.graph(threshold) for threshold in {job.threshold for job in jobs}}
    variants = [
        Variant(f"{model}, {setting} {value:g}", job, graphs[job.threshold])
        for value, job in zip(values, jobs, strict=True)
    ]
    results = list(run_all(experiment, data, variants, quiet).values())
    edges = [variant.graph.edges for variant in variants]
    points = list(zip(values, edges, results, strict=True))
    heading = f"{model}: {title(experiment, data, results)}"
    files = folder / f"{setting}.csv", folder / f"{setting}.png"
    rows = [
        [value, count, name, *estimate_fields(result.estimates[name])]
        for value, count, result in points
        for name in METRIC_NAMES
    ]
    write_csv(files[0], experiment, [setting, "edges", "measure"], [], rows)
    estimates = {name: [result.estimates[name] for result in results] for name in PLOTTED}
    plot(
        files[1],
        f"{heading}\n{_legend(experiment)}",
        AXES[setting],
        values,
        estimates,
        edges if setting == "threshold" else None,
    )
    content = {
        "title": heading,
        "setting": setting,
        "points": [{setting: value, "edges": count} | estimates_json(result) for value, count, result in points],
    }
    return Report(heading, content, files)


def plot(
    path: Path,
    title: str,
    axis: str,
    values: Sequence[float],
    estimates: dict[str, list[Estimate]],
    edges: Sequence[int] | None = None,
) -> None:
    """Plot one line per measure, with error bars of the interval or, without one, the deviation.

    Args:
        path: the image to write; its suffix chooses the format (.png, .svg, .pdf).
        title: above the plot; long lines are wrapped.
        axis: the label of the x axis.
        values: x of each point.
        estimates: by measure, one per value.
        edges: one per value, drawn as bars on a second y axis; None for none.

    Raises:
        FailureError: the file cannot be written.
    """
    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    lines = figure.subplots()
    for marker, (name, points) in zip("os", estimates.items(), strict=False):
        means, bars = [point.mean for point in points], zip(*map(_bar, points), strict=True)
        lines.errorbar(values, means, yerr=list(bars), marker=marker, capsize=3, label=name)
    lines.set(xlabel=axis, ylabel=" / ".join(estimates), xticks=values)
    lines.grid(alpha=0.3)
    if edges is not None:
        counts = lines.twinx()
        width = 0.5 * min((b - a for a, b in zip(sorted(values), sorted(values)[1:], strict=False)), default=0.1)
        counts.bar(values, edges, width, color="0.85", label="edges")
        counts.set_ylabel("edges")
        counts.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        lines.set_zorder(counts.get_zorder() + 1)  # the lines in front of the bars
        lines.patch.set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(estimates) + 1)
    wrapped = [part for line in title.splitlines() for part in textwrap.wrap(line, TITLE_WIDTH)]
    lines.set_title("\n".join(wrapped), fontsize=7, loc="left")
    with written_atomically(path) as temporary:
        figure.savefig(temporary)


def _bar(point: Estimate) -> tuple[float, float]:
    """The lengths of an error bar below and above a point, at least 0: an interval need not contain the mean."""
    if math.isnan(point.low):
        return (0.0, 0.0) if math.isnan(point.deviation) else (point.deviation, point.deviation)
    return max(point.mean - point.low, 0.0), max(point.high - point.mean, 0.0)


def _legend(experiment: Experiment) -> str:
    """What points and error bars are."""
    points = f"Means over {experiment.seeds} seeds" if experiment.seeds > 1 else "One seed"
    if experiment.resamples:
        return f"{points}; bars: 95 % intervals over {experiment.resamples:,} resamples of the test photos."
    return f"{points}; bars: standard deviation over the seeds." if experiment.seeds > 1 else f"{points}."
