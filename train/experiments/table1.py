"""Table 1 of the paper on any data: all models, with chance and the paper's figures (Huang et al. 2020)."""

import math
from pathlib import Path

from mlzsl.cli.outputs import written_atomically
from mlzsl.metrics.summary import METRIC_NAMES, chance_metrics
from mlzsl.train.backbones.clip import CLIP
from mlzsl.train.datasets.registry import parse_data
from mlzsl.train.embeddings import open_embeddings
from mlzsl.train.experiments.data import load_data
from mlzsl.train.experiments.experiment import Estimate, Experiment, Variant, check_models, run_all
from mlzsl.train.experiments.report import (
    ESTIMATE_COLUMNS,
    Report,
    estimate_fields,
    estimates_json,
    six_digits,
    three_digits,
    title,
    write_csv,
)
from mlzsl.train.models.registry import MODELS
from mlzsl.train.training.job import SCENES, check_towers, embeddings_spec

DATASETS = {"coco": "MS-COCO", "nuswide": "NUS-WIDE"}  # of the paper, by the format in --data
PAPER_SETTING = "ResNet-101, 300-d GloVe vectors, seed 42"
PAPER_MEASURES = ("seen mAP", "seen miAP", "unseen mAP", "unseen miAP")

# The paper's table 1 by dataset and model, in percent as printed, in the order of PAPER_MEASURES.
PAPER: dict[str, dict[str, tuple[float, float, float, float]]] = {
    "MS-COCO": {
        "visual-semantic": (58.30, 59.87, 18.60, 28.08),
        "Fast0Tag": (44.60, 60.20, 19.10, 32.90),
        "SKG": (64.02, 64.22, 18.03, 33.68),
        "RGCN": (53.67, 60.43, 18.97, 33.65),
        "RGCN-XL": (34.10, 49.18, 17.32, 35.43),
        "RGCN-PosVAE": (51.54, 57.13, 20.52, 37.14),
    },
    "NUS-WIDE": {
        "visual-semantic": (25.79, 34.64, 12.73, 29.01),
        "Fast0Tag": (25.10, 36.09, 10.41, 34.58),
        "SKG": (22.89, 32.95, 8.89, 33.77),
        "RGCN": (24.95, 31.23, 9.98, 33.61),
        "RGCN-XL": (23.66, 30.95, 9.86, 34.31),
        "RGCN-PosVAE": (24.67, 32.09, 11.09, 36.78),
    },
}


def make_table1(
    experiment: Experiment, folder: Path, models: tuple[str, ...] | None = None, quiet: bool = False
) -> Report:
    """Train and test every model with every seed, and write table1.md and table1.csv into a folder.

    Args:
        experiment: data, settings, seeds, folds.
        folder: created if missing.
        models: names of `MODELS`, the rows in their order; None for all; zero-shot only for a CLIP backbone.
        quiet: show no progress.

    Raises:
        UsageError: an invalid name, file or folder.
        FailureError: a training diverged, or a file cannot be written.
    """
    clip = experiment.job.backbone.startswith(CLIP)
    left_out = [name for name in MODELS if models is None and MODELS[name].needs_clip and not clip]
    chosen = [name for name in MODELS if name not in left_out] if models is None else models
    models = check_models(chosen, MODELS, "--models")
    jobs = {name: experiment.job_of(name) for name in models}
    for job in jobs.values():
        check_towers(job)
    data = load_data(experiment.job, experiment.folds, quiet)
    graph = data.graph(experiment.job.threshold)
    own = {
        name: data.graph(job.threshold, open_embeddings(embeddings_spec(job), quiet))
        for name, job in jobs.items()
        if job.embeddings != experiment.job.embeddings
    }
    results = run_all(experiment, data, [Variant(name, jobs[name], own.get(name, graph)) for name in models], quiet)
    chance = chance_metrics(data.targets(graph), graph.seen)
    format_ = "" if experiment.job.data == SCENES else parse_data(experiment.job.data)[0]
    dataset = DATASETS.get(format_, "NUS-WIDE" if data.inputs.labels.name == "nuswide81" else "MS-COCO")
    paper = {
        model: {name: round(value / 100, 4) for name, value in zip(PAPER_MEASURES, PAPER[dataset][model], strict=True)}
        for model in models
        if model in PAPER[dataset]
    }
    heading = title(experiment, data, results.values())
    note = "" if format_ in DATASETS else ", other data than here: compare the order of models, not the figures"
    rows = [
        ["model", *PAPER_MEASURES, *(f"paper: {name}" for name in PAPER_MEASURES)],
        ["---"] * (1 + 2 * len(PAPER_MEASURES)),
        ["chance", *(three_digits(chance[name]) for name in PAPER_MEASURES), *[""] * len(PAPER_MEASURES)],
    ]
    seeds = [""] * (len(ESTIMATE_COLUMNS) - 1 + experiment.seeds)
    fields: list[list[object]] = [["chance", name, six_digits(value), *seeds, "", ""] for name, value in chance.items()]
    for model, result in results.items():
        published = paper.get(model, {})
        printed = [three_digits(published.get(name, math.nan)) if published else "" for name in PAPER_MEASURES]
        rows.append([model, *(_cell(result.estimates[name]) for name in PAPER_MEASURES), *printed])
        for name in METRIC_NAMES:
            of_paper = [published[name], dataset] if name in published else ["", ""]
            fields.append([model, name, *estimate_fields(result.estimates[name]), *of_paper])
    legend = f"{_legend(experiment)}The paper's figures are of {dataset} with {PAPER_SETTING}{note}."
    if own:
        legend += f" {', '.join(own)} takes labels from the backbone's own text tower."
    if left_out:
        legend += f" Left out: {', '.join(left_out)}, which needs a CLIP model as --backbone."
    text = "\n".join([heading, "", *(f"| {' | '.join(row)} |" for row in rows), "", legend, ""])
    files = folder / "table1.md", folder / "table1.csv"
    with written_atomically(files[0]) as temporary:
        temporary.write_text(text, encoding="utf-8")
    write_csv(files[1], experiment, ["model", "measure"], ["paper", "paper's data"], fields)
    content = {
        "title": heading,
        "chance": {name: six_digits(value) for name, value in chance.items()},
        "models": {model: estimates_json(result) for model, result in results.items()},
        "paper": {"data": dataset, "same_data": format_ in DATASETS, "models": paper},
    }
    return Report(text, content, files)


def _legend(experiment: Experiment) -> str:
    """How to read `_cell`."""
    deviation = f" ± the standard deviation over {experiment.seeds} seeds" if experiment.seeds > 1 else ""
    interval = f" [the 95 % interval over {experiment.resamples:,} resamples of the test photos]"
    parts = deviation + interval * bool(experiment.resamples)
    return f"Mean{parts}. " if parts else ""


def _cell(estimate: Estimate) -> str:
    """An estimate for people, such as "0.176 ± 0.004 [0.151, 0.203]", without undefined parts."""
    deviation = "" if math.isnan(estimate.deviation) else f" ± {estimate.deviation:.3f}"
    interval = "" if math.isnan(estimate.low) else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    return f"{three_digits(estimate.mean)}{deviation}{interval}"
