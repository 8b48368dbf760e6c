"""The thresholds of a whole model: chosen on labelled photos where a label has enough, predicted where it has not."""

from dataclasses import dataclass

import numpy as np

from mlzsl.cli.errors import FailureError
from mlzsl.cli.progress import progress
from mlzsl.engines.artifact.manifest import Label
from mlzsl.engines.artifact.modelfile import Scores
from mlzsl.engines.engine import Engine
from mlzsl.graph.taxonomy import Taxonomy
from mlzsl.graph.wup import wup_similarity
from mlzsl.imaging import Preprocessing
from mlzsl.runtime.labelled import LabelledPhotos
from mlzsl.runtime.tagging.pipeline import DEFAULT_BATCH_SIZE, ReadableBatches
from mlzsl.runtime.thresholds.operating_point import (
    Bools,
    Goal,
    OperatingPoint,
    choose_operating_point,
    operating_point_at,
)
from mlzsl.runtime.thresholds.prediction import Assessment, Known, assess, predict

FEWEST_PHOTOS = 10  # that have a label; fewer say little of where its threshold lies
FEWEST_LABELS = 5  # that others are predicted from
UNSEEN, FEW_PHOTOS = "unseen", "few photos"  # why a threshold is predicted


@dataclass(frozen=True)
class LabelThreshold:
    """The threshold of one label.

    Attributes:
        label: the label, its threshold the old one.
        cut: the threshold, and what it does to the photos; for a predicted one a trial, which it was not chosen on.
        positives: how many of the photos have the label.
        predicted: UNSEEN or FEW_PHOTOS; None where it was chosen on photos.
        low, high: the interval of a predicted threshold; its own twice for a chosen one.
    """

    label: Label
    cut: OperatingPoint
    positives: int
    predicted: str | None
    low: float
    high: float


@dataclass(frozen=True)
class LearnedThresholds:
    """The thresholds of a model, and how well those without photos are predicted.

    Attributes:
        goal: what they were chosen for.
        labels: one a label, in the manifest's order.
        photos, unreadable: how many photos were scored, and how many could not be.
        fewest_photos: what a label needed for its threshold to be chosen on its own photos.
        assessment: None where nothing was predicted.
        left_out: what the chosen labels' thresholds would be had they been predicted, as (place among `labels`, cut).
    """

    goal: Goal
    labels: tuple[LabelThreshold, ...]
    photos: int
    unreadable: int
    fewest_photos: int
    assessment: Assessment | None
    left_out: tuple[tuple[int, OperatingPoint], ...]

    @property
    def thresholds(self) -> tuple[float, ...]:
        """One a label, in the manifest's order."""
        return tuple(found.cut.threshold for found in self.labels)


def learn_thresholds(
    engine: Engine,
    photos: LabelledPhotos,
    goal: Goal,
    fewest_photos: int = FEWEST_PHOTOS,
    batch_size: int = DEFAULT_BATCH_SIZE,
    threads: int | None = None,
    quiet: bool = False,
) -> LearnedThresholds:
    """Choose the thresholds of an engine's labels.

    Labels that training never saw are predicted even where photos have them: what the photos say of them is only
    reported. So the figures say what zero-shot labels really get.

    Args:
        engine: whose scores count.
        photos: with their true labels, none of them trained on, frequencies as in the photos that will be tagged.
        goal: what each threshold is chosen for.
        fewest_photos: a seen label that fewer photos have is predicted as an unseen one is.
        batch_size, threads: of the scoring; thresholds do not depend on them.
        quiet: show no progress.

    Raises:
        FailureError: not one photo could be read, a score is NaN, or too few labels have enough photos to predict
            the others from.
    """
    scores, targets, unreadable = _score(engine, photos, batch_size, threads, quiet)
    return thresholds_from_scores(engine.manifest.labels, scores, targets, goal, fewest_photos, unreadable)


def thresholds_from_scores(
    labels: tuple[Label, ...],
    scores: Scores,
    targets: Bools,
    goal: Goal,
    fewest_photos: int = FEWEST_PHOTOS,
    unreadable: int = 0,
) -> LearnedThresholds:
    """As `learn_thresholds`, from the scores float32 [n, L] of photos and which labels they have, bool [n, L]."""
    positives = targets.sum(axis=0)
    seen = np.array([label.seen for label in labels])
    own = seen & (positives >= fewest_photos)
    chosen, others = np.flatnonzero(own), np.flatnonzero(~own)
    cuts = {int(place): choose_operating_point(scores[:, place], targets[:, place], goal) for place in chosen}
    intervals = {place: (cut.threshold, cut.threshold) for place, cut in cuts.items()}
    assessment, left_out = None, []
    if len(others):
        if len(chosen) < FEWEST_LABELS:
            raise FailureError(
                f"only {len(chosen)} seen labels have {fewest_photos} photos or more, and the thresholds of "
                f"{len(others)} others are to be predicted from at least {FEWEST_LABELS}; give more labelled photos, "
                "or lower --min-photos."
            )
        similarities = _similarities(labels, chosen)
        known = Known(scores[:, chosen], np.array([cuts[place].threshold for place in cuts]), similarities[chosen])
        assessment = assess(known)
        predicted = predict(known, scores[:, others], similarities[others], assessment.method)
        for at, place in enumerate(others.tolist()):
            cuts[place] = operating_point_at(predicted.thresholds[at], scores[:, place], targets[:, place])
            intervals[place] = float(predicted.low[at]), float(predicted.high[at])
        left_out = [
            (place, operating_point_at(threshold, scores[:, place], targets[:, place]))
            for place, threshold in zip(chosen.tolist(), assessment.left_out.thresholds, strict=True)
        ]
    found = tuple(
        LabelThreshold(
            label,
            cuts[place],
            int(positives[place]),
            None if own[place] else FEW_PHOTOS if label.seen else UNSEEN,
            *intervals[place],
        )
        for place, label in enumerate(labels)
    )
    return LearnedThresholds(goal, found, len(scores), unreadable, fewest_photos, assessment, tuple(left_out))


def _score(
    engine: Engine, photos: LabelledPhotos, batch_size: int, threads: int | None, quiet: bool
) -> tuple[Scores, Bools, int]:
    """Scores and targets of the photos that can be read, and how many cannot."""
    batches = ReadableBatches(photos.paths, Preprocessing.from_json(engine.manifest.preprocessing), batch_size, threads)
    scores = []
    with progress("scoring", len(photos.paths), "photos", quiet) as bar:
        for rows in engine.run(batches.images()):
            scores.append(rows)
            bar.advance(len(rows))
    if not scores:
        raise FailureError(f"none of the {len(batches.unreadable)} photos could be read; no threshold was chosen.")
    together = np.concatenate(scores)
    if np.isnan(together).any():
        raise FailureError("a score is NaN; no threshold was chosen.")
    return together, np.delete(photos.targets, batches.unreadable, axis=0), len(batches.unreadable)


def _similarities(labels: tuple[Label, ...], columns: np.ndarray) -> np.ndarray:
    """WUP of every label with some of them: float64 [L, len(columns)]."""
    synsets = [label.synset for label in labels]
    return wup_similarity(Taxonomy.shipped(), synsets, [synsets[place] for place in columns])
