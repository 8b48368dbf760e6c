"""What all runs of an experiment share: photos, features, how they are divided. Each photo passes the backbone once."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import UsageError
from mlzsl.cli.progress import log
from mlzsl.graph.classgraph import ClassGraph, build_class_graph
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.embeddings.source import Embeddings
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.metrics.average_precision import Bools
from mlzsl.train.backbones.backbone import DENSE, Backbone
from mlzsl.train.datasets.source import Source
from mlzsl.train.extraction.features import Features, extract
from mlzsl.train.models.registry import find_model
from mlzsl.train.training.job import (
    SCENES,
    Job,
    check_inputs,
    job_backbone,
    labelled_photos,
    target_labels,
    unseen_labels,
)
from mlzsl.train.training.pipeline import target_matrix


@dataclass(frozen=True)
class Division:
    """Photos to train on and photos to test on.

    Attributes:
        training: the photos to train on.
        training_features: of them.
        tested_features: of the photos to test on.
        places: int64 [m], where these stand among all photos that are tested.
    """

    training: PhotoSet
    training_features: Features
    tested_features: Features
    places: npt.NDArray[np.int64]

    def read_for(self, system: str, backbone: Backbone) -> tuple["Division", Backbone]:
        """The division and its backbone with what a system reads, which may be less."""
        narrower = backbone.with_pooling(find_model(system).pooling)
        training, tested = (each.for_backbone(narrower) for each in (self.training_features, self.tested_features))
        return replace(self, training_features=training, tested_features=tested), narrower


@dataclass(frozen=True)
class Subject:
    """What is experimented on.

    Attributes:
        job: what the runs have in common.
        labels: Y.
        seen: Y^s.
        backbone: the frozen feature extractor.
        embeddings: where S comes from.
        divisions: one, or one a fold; every tested photo is in one of them.
        tested: the photos that are tested.
    """

    job: Job
    labels: LabelSet
    seen: tuple[str, ...]
    backbone: Backbone
    embeddings: Embeddings
    divisions: tuple[Division, ...]
    tested: PhotoSet

    def graph(self, threshold: float) -> ClassGraph:
        """The class graph of labels and external classes at a WUP threshold."""
        return build_class_graph(self.labels, self.seen, self.backbone.external, self.embeddings, threshold=threshold)

    def targets(self, graph: ClassGraph) -> Bools:
        """Which labels each tested photo carries, bool [n, N_t]."""
        return target_matrix(graph, self.tested)


def open_subject(job: Job, systems: Iterable[str], folds: int | None = None, quiet: bool = False) -> Subject:
    """Read the data of a job and extract its features, or take them from the cache.

    Args:
        job: data, labels, backbone, embeddings and cache; its seed generates and divides the photos.
        systems: those that will be trained; the features hold what any of them reads.
        folds: test every photo once, in so many parts; None takes the data's own split or the job's share.
        quiet: show no progress.

    Raises:
        UsageError: a name, file or folder of the job is unfit, or data with a split of its own is to be folded.
    """
    if folds is not None and job.data == SCENES:  # before they are generated
        raise _own_test_photos(job, folds)
    labels = target_labels(job)
    unseen = unseen_labels(job.unseen, labels)
    embeddings = open_embeddings(job.embeddings)
    check_inputs(job, labels, embeddings)
    source = labelled_photos(job, labels, quiet)
    if folds is not None and source.held_out is not None:
        raise _own_test_photos(job, folds)
    backbone = job_backbone(job, quiet)
    if any(find_model(system).pooling == DENSE for system in systems):
        backbone = backbone.with_pooling(DENSE)
    divisions, tested = _divided(source, job, folds, backbone, quiet)
    seen = tuple(label for label in labels.labels if label not in unseen)
    subject = Subject(job, labels, seen, backbone, embeddings, divisions, tested)
    for sentence in subject.graph(job.threshold).fallbacks():
        log(f"note: {sentence}", quiet)
    return subject


def _own_test_photos(job: Job, folds: int) -> UsageError:
    return UsageError(f"--folds {folds}: {job.data} has test photos of its own; leave the flag out.")


def _divided(
    source: Source, job: Job, folds: int | None, backbone: Backbone, quiet: bool
) -> tuple[tuple[Division, ...], PhotoSet]:
    if folds is None:
        training, tested = source.split(job.held_out, job.training.seed)
        of_training = extract(backbone, training, job.cache, quiet=quiet)
        of_tested = extract(backbone, tested, job.cache, quiet=quiet)
        return (Division(training, of_training, of_tested, np.arange(len(tested))),), tested
    photos = source.training
    parts = list(photos.folds(folds, job.training.seed))  # first: too many folds show before the backbone works
    features = extract(backbone, photos, job.cache, quiet=quiet)
    place_of = {path: place for place, path in enumerate(photos.paths)}
    divisions = []
    for training, tested in parts:
        inside = np.array([place_of[path] for path in training.paths])
        outside = np.array([place_of[path] for path in tested.paths])
        divisions.append(Division(training, _taken(features, inside), _taken(features, outside), outside))
    return tuple(divisions), photos


def _taken(features: Features, places: npt.NDArray[np.int64]) -> Features:
    return Features(features.features[places], features.logits[places])
