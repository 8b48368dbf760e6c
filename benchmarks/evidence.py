"""Which of two backbones is better for evidence, trained on the same photos and tested on the same others?

KIT is the folder of the evaluation kit, with photos and labels in KIT/coco and weights of ResNets in KIT/weights. The
folds are those of `mlzsl-experiment table1 --folds`: each photo is scored by a model that was trained on the others.
Printed are the measures of both and their differences, with 95 % intervals over the same resamples of the photos.

    python benchmarks/evidence.py KIT [--first efficientnet-lite0@224] [--second resnet50@224] [--folds 3]
"""

from pathlib import Path

import click
import numpy as np
from frontier import LABELS, MEASURES, WEIGHTS

from mlzsl.graph.classgraph import build_class_graph
from mlzsl.graph.embeddings.source import MINILM
from mlzsl.graph.overlap import KEEP, LEAVE_OUT, Overlap
from mlzsl.metrics.average_precision import Bools, Floats, Scores
from mlzsl.metrics.intervals import CONFIDENCE, bootstrap_metrics
from mlzsl.metrics.summary import compute_metrics
from mlzsl.train.experiments.data import ExperimentData, load_data
from mlzsl.train.experiments.experiment import run_once
from mlzsl.train.models.evidence import Evidence
from mlzsl.train.training.job import Job

OVERLAPS: dict[Overlap, str] = {LEAVE_OUT: "classes that are labels left out", KEEP: "all classes kept"}


@click.command()
@click.argument("kit", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--first", default="efficientnet-lite0@224", help="BACKBONE@SIZE.")
@click.option("--second", default="resnet50@224", help="BACKBONE@SIZE.")
@click.option("--embeddings", default=MINILM)
@click.option("--folds", default=3)
@click.option("--resamples", default=1000)
@click.option("--cache", default="mlzsl-cache", type=click.Path(path_type=Path))
def main(kit: Path, first: str, second: str, embeddings: str, folds: int, resamples: int, cache: Path) -> None:
    """Compare two backbones on the photos of KIT."""
    jobs = [job_of(kit, point, embeddings, cache) for point in (first, second)]
    data = [load_data(job, folds) for job in jobs]
    for overlap, described in OVERLAPS.items():
        print(f"\n## {described}\n\n| backbone | " + " | ".join(MEASURES) + " |\n| --- |" + " --- |" * len(MEASURES))
        values, draws = [], []
        for point, job, of in zip((first, second), jobs, data, strict=True):
            scores, targets, seen = scores_in_folds(job, of, overlap)
            values.append(compute_metrics(scores, targets, seen))
            draws.append(bootstrap_metrics(scores, targets, seen, resamples, job.training.seed))
            print(f"| {point} | " + " | ".join(f"{values[-1][measure]:.3f}" for measure in MEASURES) + " |")
        cells = []
        for measure in MEASURES:
            low, high = paired_interval(*(value[measure] for value in values), *(draw[measure] for draw in draws))
            cells.append(f"{values[0][measure] - values[1][measure]:+.3f} [{low:+.3f}, {high:+.3f}]")
        print("| difference | " + " | ".join(cells) + " |")


def job_of(kit: Path, point: str, embeddings: str, cache: Path) -> Job:
    """The training of evidence on BACKBONE@SIZE."""
    backbone, _, size = point.partition("@")
    weights = kit / "weights" / WEIGHTS[backbone] if backbone in WEIGHTS else None
    return Job(
        data=str(kit / "coco"),
        labels=LABELS,
        model=Evidence.name,
        backbone=backbone,
        backbone_weights=weights,
        image_size=int(size) if size else None,
        embeddings=embeddings,
        cache=cache,
    )


def scores_in_folds(job: Job, data: ExperimentData, overlap: Overlap) -> tuple[Scores, Bools, Bools]:
    """Scores float32 [n, L], targets bool [n, L] and seen labels bool [L] of all photos of the folds."""
    labels, seen, embeddings = data.inputs.labels, data.inputs.seen, data.inputs.embeddings
    graph = build_class_graph(labels, seen, data.backbone.external, embeddings, overlap=overlap, edges=False)
    targets = data.targets(graph)
    scores = np.empty(targets.shape, np.float32)
    for fold in data.folds:
        scores[fold.rows] = run_once(job, fold, graph, data.backbone, quiet=True).scores
    return scores, targets, graph.seen


def paired_interval(one: float, other: float, of_one: Floats, of_other: Floats) -> tuple[float, float]:
    """The 95 % interval of a difference, from the measures on the same resamples; centred on the difference itself."""
    resampled = of_one - of_other
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) - resampled.mean()
    return one - other + float(low), one - other + float(high)


if __name__ == "__main__":
    main()
