"""How do thresholds, chosen for seen labels and predicted for unseen ones, perform on photos they were not chosen on?

Two-fold cross-validation: thresholds of seen labels are chosen on one half of the photos, those of unseen labels
predicted, and all are tested on the other half; labels of unseen classes serve for comparison only. Compared with 0.5
for every label, one threshold for all (chosen on all seen labels together), each prediction method, and thresholds of
unseen labels chosen on their own photos of the first half.

    mlzsl-scenes scenes --count 2400 --seed 99
    python benchmarks/thresholds.py model.onnx scenes
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console

from mlzsl.engines.artifact.manifest import Label
from mlzsl.engines.artifact.modelfile import Scores
from mlzsl.engines.opening import open_engine
from mlzsl.graph.taxonomy import Taxonomy
from mlzsl.graph.wup import wup_similarity
from mlzsl.imaging.labelled_folder import load_folder
from mlzsl.runtime.labelled import match_labels
from mlzsl.runtime.tagging.pipeline import ReadableBatches
from mlzsl.runtime.thresholds.learning import thresholds_from_scores
from mlzsl.runtime.thresholds.operating_point import (
    Goal,
    OperatingPoint,
    choose_operating_point,
    operating_point_at,
    parse_goal,
)
from mlzsl.runtime.thresholds.prediction import SCALES, KnownLabels, Method, overlap, predict

Row = tuple[list[OperatingPoint], float | None, float | None]  # operating points, overlap, coverage of the intervals

GOALS = ("best-f1", "precision=0.7", "recall=0.8")


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("photos", type=click.Path(path_type=Path))
@click.option("--goal", "goals", multiple=True, default=GOALS)
@click.option("--min-photos", default=10, help="A label needs in each half.")
@click.option("--seed", default=0, help="Of the split.")
def main(model: Path, photos: Path, goals: tuple[str, ...], min_photos: int, seed: int) -> None:
    """Measure on MODEL and a folder of labelled PHOTOS."""
    with closing(open_engine(model)) as engine:
        labels = engine.manifest.labels
        labelled = match_labels(load_folder(photos), engine.manifest)
        batches = ReadableBatches(labelled.paths, engine.manifest)
        scores = np.concatenate(list(engine.run(batches.images())))
        targets = np.delete(labelled.targets, batches.unreadable, axis=0)
    order = np.random.default_rng(seed).permutation(len(scores))
    halves = np.array_split(order, 2)
    enough = np.minimum(*(targets[half].sum(axis=0) for half in halves)) >= min_photos
    seen = np.array([label.seen for label in labels])
    kept = np.flatnonzero(enough)
    labels, scores, targets = tuple(labels[index] for index in kept), scores[:, kept], targets[:, kept]
    seen = seen[kept]
    similarities = wup_similarity(Taxonomy.shipped(), [label.synset for label in labels])
    console = Console(width=160, highlight=False)
    console.print(f"{len(scores):,} photos; labels on enough photos: {seen.sum()} seen, {(~seen).sum()} unseen")
    for goal in map(parse_goal, goals):
        rows: dict[str, list[Row]] = {}
        for training, test in (halves, halves[::-1]):
            for name, row in _measured(labels, scores, targets, similarities, goal, training, test):
                rows.setdefault(name, []).append(row)
        _print(console, goal, rows)


def _measured(
    labels: tuple[Label, ...],
    scores: Scores,
    targets: npt.NDArray[np.bool_],
    similarities: npt.NDArray[np.float64],
    goal: Goal,
    training: npt.NDArray[np.intp],
    test: npt.NDArray[np.intp],
) -> Iterator[tuple[str, Row]]:
    """(name, (operating points on the test half, overlap with the own thresholds, coverage of the intervals))."""
    seen = np.array([label.seen for label in labels])
    ours, theirs = np.flatnonzero(seen), np.flatnonzero(~seen)
    first, second = (scores[training], targets[training]), (scores[test], targets[test])

    def points(indices: npt.NDArray[np.intp], thresholds: npt.NDArray[np.float64]) -> list[OperatingPoint]:
        return [
            operating_point_at(t, second[0][:, p], second[1][:, p]) for p, t in zip(indices, thresholds, strict=True)
        ]

    def own(indices: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        return np.array([choose_operating_point(first[0][:, p], first[1][:, p], goal).threshold for p in indices])

    known = KnownLabels(first[0][:, ours], own(ours), similarities[np.ix_(ours, ours)])
    own_of_unseen = own(theirs)
    learned = thresholds_from_scores(labels, *first, goal, min_photos=1)
    assert learned.validation is not None
    everything = choose_operating_point(first[0][:, ours].ravel(), first[1][:, ours].ravel(), goal).threshold
    left_out = learned.validation.left_out
    predicted = np.array([learned.labels[p].point.threshold for p in theirs])
    low, high = (np.array([getattr(learned.labels[p], end) for p in theirs]) for end in ("low", "high"))
    coverage = float(np.mean((low <= own_of_unseen) & (own_of_unseen <= high)))

    def agreement(thresholds: npt.NDArray[np.float64]) -> float:
        return float(overlap(first[0][:, theirs], thresholds, own_of_unseen).mean())

    yield "seen: own photos", (points(ours, known.thresholds), None, None)
    yield (
        "seen: predicted, each left out",
        (points(ours, left_out.thresholds), learned.validation.overlap, learned.validation.coverage),
    )
    yield "seen: one for all", (points(ours, np.full(len(ours), everything)), None, None)
    yield "seen: 0.5", (points(ours, np.full(len(ours), 0.5)), None, None)
    yield "unseen: predicted", (points(theirs, predicted), agreement(predicted), coverage)
    for scale in SCALES:
        for sharpness in (0.0, 8.0):
            method = Method(scale, sharpness)
            found = predict(known, first[0][:, theirs], similarities[np.ix_(theirs, ours)], method)
            coverage = float(np.mean((found.low <= own_of_unseen) & (own_of_unseen <= found.high)))
            yield f"unseen: by {method}", (points(theirs, found.thresholds), agreement(found.thresholds), coverage)
    for name, threshold in (("one for all", everything), ("0.5", 0.5)):
        flat = np.full(len(theirs), threshold)
        yield f"unseen: {name}", (points(theirs, flat), agreement(flat), None)
    yield "unseen: own photos", (points(theirs, own_of_unseen), None, None)


def _print(console: Console, goal: Goal, rows: dict[str, list[Row]]) -> None:
    console.print(f"\n| {goal} | precision | recall | F1 | overlap | coverage |\n| --- | --- | --- | --- | --- | --- |")
    for name, halves in rows.items():
        points = [point for half, _, _ in halves for point in half]
        figures = [
            np.nanmean([point.precision for point in points]),
            np.mean([point.recall for point in points]),
            np.mean([point.f1 for point in points]),
            *(np.nan if halves[0][at] is None else np.mean([half[at] for half in halves]) for at in (1, 2)),
        ]
        words = " | ".join("" if np.isnan(value) else f"{value:.3f}" for value in figures)
        console.print(f"| {name} | {words} |", soft_wrap=True)


if __name__ == "__main__":
    main()
