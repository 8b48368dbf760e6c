"""Thresholds of all labels of a model: chosen on photos for labels with enough of them, predicted for the others."""

from dataclasses import dataclass

import numpy as np

from mlzsl.cli.errors import FailureError
from mlzsl.cli.progress import progress
from mlzsl.cli.text import none_readable
from mlzsl.engines.artifact.manifest import Label
from mlzsl.engines.artifact.modelfile import Scores
from mlzsl.engines.engine import Engine
from mlzsl.graph.taxonomy import Taxonomy
from mlzsl.graph.wup import wup_similarity
from mlzsl.runtime.labelled import LabelledPhotos
from mlzsl.runtime.tagging.pipeline import DEFAULT_BATCH_SIZE, ReadableBatches
from mlzsl.runtime.thresholds.operating_point import (
    Bools,
    Goal,
    OperatingPoint,
    choose_operating_point,
    operating_point_at,
)
from mlzsl.runtime.thresholds.prediction import CrossValidation, KnownLabels, cross_validate, predict

MIN_PHOTOS = 10  # with a label, for its threshold to be chosen on them
MIN_LABELS = 5  # with chosen thresholds, to predict others from
UNSEEN, FEW_PHOTOS = "unseen", "few photos"  # why a threshold is predicted


@dataclass(frozen=True)
class LabelThreshold:
    """The threshold of one label.

    Attributes:
        label: the label, with its previous threshold.
        point: the threshold and how it performs on the photos; they had no part in a predicted one.
        positives: number of photos with the label.
        predicted: UNSEEN or FEW_PHOTOS; None if it was chosen on photos.
        low, high: the interval of a predicted threshold; both are the threshold of a chosen one.
    """

    label: Label
    point: OperatingPoint
    positives: int
    predicted: str | None
    low: float
    high: float


@dataclass(frozen=True)
class LearnedThresholds:
    """The thresholds of a model, and how well they are predicted for labels without photos.

    Attributes:
        goal: what they were chosen for.
        labels: one a label, in the manifest's order.
        photos, unreadable: number of photos that were scored, and that could not be read.
        min_photos: with a label, for its threshold to be chosen on them.
        validation: None if no threshold was predicted.
        left_out: (index in `labels`, operating point at the predicted threshold) of the labels with chosen thresholds,
            each predicted from the others.
    """

    goal: Goal
    labels: tuple[LabelThreshold, ...]
    photos: int
    unreadable: int
    min_photos: int
    validation: CrossValidation | None
    left_out: tuple[tuple[int, OperatingPoint], ...]

    @property
    def thresholds(self) -> tuple[float, ...]:
        """One a label, in the manifest's order."""
        return tuple(found.point.threshold for found in self.labels)


def learn_thresholds(
    engine: Engine,
    photos: LabelledPhotos,
    goal: Goal,
    min_photos: int = MIN_PHOTOS,
    batch_size: int = DEFAULT_BATCH_SIZE,
    threads: int | None = None,
    quiet: bool = False,
) -> LearnedThresholds:
    """Choose or predict the thresholds of an engine's labels.

    Unseen labels are always predicted, even if photos have them; their operating points on these photos then show what
    zero-shot labels reach.

    Args:
        engine: scores the photos.
        photos: labelled, not trained on, with label frequencies as in the photos to tag.
        goal: what each threshold is chosen for.
        min_photos: a seen label on fewer photos is predicted as well.
        batch_size, threads: of the scoring; thresholds do not depend on them.
        quiet: show no progress.

    Raises:
        FailureError: not one photo could be read, the engine failed, or too few labels have enough photos to predict
            the others from.
    """
    batches = ReadableBatches(photos.paths, engine.manifest, batch_size, threads)
    parts = []
    with progress("scoring", len(photos.paths), "photos", quiet) as bar:
        for rows in engine.run(batches.images()):
            parts.append(rows)
            bar.advance(len(rows))
    if not parts:
        reason = none_readable(len(batches.unreadable), batches.first_error)
        raise FailureError(f"{reason}; no threshold was chosen.")
    scores = np.concatenate(parts)
    targets = np.delete(photos.targets, batches.unreadable, axis=0)
    labels = engine.manifest.labels
    return thresholds_from_scores(labels, scores, targets, goal, min_photos, len(batches.unreadable))


def thresholds_from_scores(
    labels: tuple[Label, ...],
    scores: Scores,
    targets: Bools,
    goal: Goal,
    min_photos: int = MIN_PHOTOS,
    unreadable: int = 0,
) -> LearnedThresholds:
    """As `learn_thresholds`, from the scores of photos, float32 [n, L], and their labels, bool [n, L]."""
    positives = targets.sum(axis=0)
    own = np.array([label.seen for label in labels]) & (positives >= min_photos)
    chosen, others = np.flatnonzero(own).tolist(), np.flatnonzero(~own).tolist()

    def at(index: int, threshold: float) -> OperatingPoint:
        return operating_point_at(threshold, scores[:, index], targets[:, index])

    points = {index: choose_operating_point(scores[:, index], targets[:, index], goal) for index in chosen}
    intervals = {index: (point.threshold, point.threshold) for index, point in points.items()}
    validation, left_out = None, []
    if others:
        if len(chosen) < MIN_LABELS:
            raise FailureError(
                f"only {len(chosen)} seen labels have {min_photos} photos or more, but predicting the thresholds of "
                f"{len(others)} others needs {MIN_LABELS}; add labelled photos, or lower --min-photos."
            )
        synsets = [label.synset for label in labels]
        similarities = wup_similarity(Taxonomy.shipped(), synsets, [synsets[index] for index in chosen])  # [L, chosen]
        thresholds = np.array([point.threshold for point in points.values()])
        known = KnownLabels(scores[:, chosen], thresholds, similarities[chosen])
        validation = cross_validate(known)
        predicted = predict(known, scores[:, others], similarities[others], validation.method)
        points |= {index: at(index, value) for index, value in zip(others, predicted.thresholds, strict=True)}
        intervals |= dict(zip(others, zip(predicted.low.tolist(), predicted.high.tolist(), strict=True), strict=True))
        left_out = [(i, at(i, value)) for i, value in zip(chosen, validation.left_out.thresholds, strict=True)]
    found = tuple(
        LabelThreshold(
            label,
            points[index],
            int(positives[index]),
            None if own[index] else FEW_PHOTOS if label.seen else UNSEEN,
            *intervals[index],
        )
        for index, label in enumerate(labels)
    )
    return LearnedThresholds(goal, found, len(scores), unreadable, min_photos, validation, tuple(left_out))
