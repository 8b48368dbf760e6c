"""What do thresholds reach on photos they were not chosen on, those of seen labels and the predicted ones of unseen?

The photos are halved. On one half the thresholds of seen labels are chosen and those of unseen labels predicted, on the
other all are tried, and the other way round; the targets of unseen labels are used for comparison alone. Beside them:
0.5 for every label, one threshold for all (the one that serves the seen labels best together), each way to predict on
its own, and what the unseen labels would get were their own photos of the first half known.

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
from mlzsl.imaging import Preprocessing
from mlzsl.runtime.labelled import load_labelled
from mlzsl.runtime.tagging.pipeline import ReadableBatches
from mlzsl.runtime.thresholds.learning import thresholds_from_scores
from mlzsl.runtime.thresholds.operating_point import (
    Goal,
    OperatingPoint,
    choose_operating_point,
    operating_point_at,
    parse_goal,
)
from mlzsl.runtime.thresholds.prediction import SPACES, Known, Method, overlap, predict

Row = tuple[list[OperatingPoint], float | None, float | None]  # cuts, overlap, share of intervals that hold

GOALS = ("best-f1", "precision=0.7", "recall=0.8")


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("photos", type=click.Path(path_type=Path))
@click.option("--goal", "goals", multiple=True, default=GOALS)
@click.option("--min-photos", default=10, help="That a label needs in each half.")
@click.option("--seed", default=0, help="Of the halving.")
def main(model: Path, photos: Path, goals: tuple[str, ...], min_photos: int, seed: int) -> None:
    """Measure on MODEL and a folder of labelled PHOTOS."""
    with closing(open_engine(model)) as engine:
        labels = engine.manifest.labels
        labelled = load_labelled(photos, None, engine.manifest)
        batches = ReadableBatches(labelled.paths, Preprocessing.from_json(engine.manifest.preprocessing), 16)
        scores = np.concatenate(list(engine.run(batches.images())))
        targets = np.delete(labelled.targets, batches.unreadable, axis=0)
    order = np.random.default_rng(seed).permutation(len(scores))
    halves = np.array_split(order, 2)
    enough = np.minimum(*(targets[half].sum(axis=0) for half in halves)) >= min_photos
    seen = np.array([label.seen for label in labels])
    kept = np.flatnonzero(enough)
    labels, scores, targets = tuple(labels[place] for place in kept), scores[:, kept], targets[:, kept]
    seen = seen[kept]
    similarities = wup_similarity(Taxonomy.shipped(), [label.synset for label in labels])
    console = Console(width=160, highlight=False)
    console.print(f"{len(scores):,} photos; labels with photos enough: {seen.sum()} seen, {(~seen).sum()} unseen")
    for goal in map(parse_goal, goals):
        rows: dict[str, list[Row]] = {}
        for chosen, tried in (halves, halves[::-1]):
            for name, row in _measured(labels, scores, targets, similarities, goal, chosen, tried):
                rows.setdefault(name, []).append(row)
        _print(console, goal, rows)


def _measured(
    labels: tuple[Label, ...],
    scores: Scores,
    targets: npt.NDArray[np.bool_],
    similarities: npt.NDArray[np.float64],
    goal: Goal,
    chosen: npt.NDArray[np.intp],
    tried: npt.NDArray[np.intp],
) -> Iterator[tuple[str, Row]]:
    """(row's name, (cuts on the half tried, overlap with the label's own thresholds, share of intervals that hold))."""
    seen = np.array([label.seen for label in labels])
    ours, theirs = np.flatnonzero(seen), np.flatnonzero(~seen)
    first, second = (scores[chosen], targets[chosen]), (scores[tried], targets[tried])

    def tries(places: npt.NDArray[np.intp], thresholds: npt.NDArray[np.float64]) -> list[OperatingPoint]:
        return [
            operating_point_at(t, second[0][:, p], second[1][:, p]) for p, t in zip(places, thresholds, strict=True)
        ]

    def own(places: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        return np.array([choose_operating_point(first[0][:, p], first[1][:, p], goal).threshold for p in places])

    known = Known(first[0][:, ours], own(ours), similarities[np.ix_(ours, ours)])
    own_of_unseen = own(theirs)
    learned = thresholds_from_scores(labels, *first, goal, fewest_photos=1)
    assert learned.assessment is not None
    everything = choose_operating_point(first[0][:, ours].ravel(), first[1][:, ours].ravel(), goal).threshold
    left_out = learned.assessment.left_out
    predicted = np.array([learned.labels[p].cut.threshold for p in theirs])
    low, high = (np.array([getattr(learned.labels[p], end) for p in theirs]) for end in ("low", "high"))
    inside = float(np.mean((low <= own_of_unseen) & (own_of_unseen <= high)))

    def agreement(thresholds: npt.NDArray[np.float64]) -> float:
        return float(overlap(first[0][:, theirs], thresholds, own_of_unseen).mean())

    yield "seen: own photos", (tries(ours, known.thresholds), None, None)
    yield (
        "seen: predicted, each left out",
        (tries(ours, left_out.thresholds), learned.assessment.overlap, learned.assessment.covered),
    )
    yield "seen: one for all", (tries(ours, np.full(len(ours), everything)), None, None)
    yield "seen: 0.5", (tries(ours, np.full(len(ours), 0.5)), None, None)
    yield "unseen: predicted", (tries(theirs, predicted), agreement(predicted), inside)
    for space in SPACES:
        for sharpness in (0.0, 8.0):
            method = Method(space, sharpness)
            found = predict(known, first[0][:, theirs], similarities[np.ix_(theirs, ours)], method)
            inside = float(np.mean((found.low <= own_of_unseen) & (own_of_unseen <= found.high)))
            yield f"unseen: by {method}", (tries(theirs, found.thresholds), agreement(found.thresholds), inside)
    for name, threshold in (("one for all", everything), ("0.5", 0.5)):
        flat = np.full(len(theirs), threshold)
        yield f"unseen: {name}", (tries(theirs, flat), agreement(flat), None)
    yield "unseen: own photos, were they known", (tries(theirs, own_of_unseen), None, None)


def _print(console: Console, goal: Goal, rows: dict[str, list[Row]]) -> None:
    console.print(
        f"\n| {goal} | precision | recall | F1 | overlap | interval holds |\n| --- | --- | --- | --- | --- | --- |"
    )
    for name, halves in rows.items():
        cuts = [cut for half, _, _ in halves for cut in half]
        figures = [
            np.mean([cut.precision for cut in cuts if cut.given]) if any(cut.given for cut in cuts) else np.nan,
            np.mean([cut.recall for cut in cuts]),
            np.mean([cut.f1 for cut in cuts]),
            *(np.nan if halves[0][at] is None else np.mean([half[at] for half in halves]) for at in (1, 2)),
        ]
        words = " | ".join("" if np.isnan(value) else f"{value:.3f}" for value in figures)
        console.print(f"| {name} | {words} |", soft_wrap=True)


if __name__ == "__main__":
    main()
