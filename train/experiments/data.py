"""The data that all runs of an experiment share: photos, features and folds; the backbone sees each photo once."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import UsageError
from mlzsl.cli.progress import log
from mlzsl.graph.classgraph import ClassGraph, build_class_graph
from mlzsl.graph.embeddings.source import Embeddings
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.metrics.average_precision import Bools
from mlzsl.train.backbones.backbone import Backbone
from mlzsl.train.datasets.source import OWN_SPLIT, Source
from mlzsl.train.extraction.features import Features, extract_parts
from mlzsl.train.training.job import MOST_GRAPH_EXTERNALS, SCENES, Inputs, Job, job_backbone, open_inputs
from mlzsl.train.training.pipeline import target_matrix


@dataclass(frozen=True)
class Fold:
    """Photos to train on and photos to test on.

    Attributes:
        training: the training photos.
        training_features: of the training photos.
        test_features: of the test photos.
        rows: int64 [m], the index of each test photo among the test photos of all folds.
    """

    training: PhotoSet
    training_features: Features
    test_features: Features
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ExperimentData:
    """The data of an experiment.

    Attributes:
        inputs: labels, embeddings and photos.
        backbone: the frozen feature extractor.
        folds: one for data with a split; every test photo is in one of them.
        test_photos: of all folds.
    """

    inputs: Inputs
    backbone: Backbone
    folds: tuple[Fold, ...]
    test_photos: PhotoSet

    def graph(self, threshold: float, embeddings: Embeddings | None = None) -> ClassGraph:
        """The class graph of labels and external classes at a WUP threshold; it has no external class that is a label.

        Models share it, so that all have the same external classes, also where a model would keep those in deployment.

        Args:
            threshold: of edges.
            embeddings: other ones than the inputs'.
        """
        labels, seen = self.inputs.labels, self.inputs.seen
        embeddings = embeddings or self.inputs.embeddings
        return build_class_graph(
            labels, seen, self.backbone.external, embeddings, threshold, most_externals=MOST_GRAPH_EXTERNALS
        )

    def targets(self, graph: ClassGraph) -> Bools:
        """The labels of each test photo, bool [n, N_t]."""
        return target_matrix(graph, self.test_photos)


def load_data(job: Job, folds: int | None = None, quiet: bool = False) -> ExperimentData:
    """Read the photos of a job and extract their features, or load them from the cache.

    Args:
        job: data, labels, backbone, embeddings and cache; its seed generates and splits the photos.
        folds: test every photo once, in this many folds; None for the data's own split or the job's share.
        quiet: show no progress.

    Raises:
        UsageError: an invalid name, file or folder, or folds or a held-out share without effect.
    """
    if folds is not None and job.data == SCENES:  # before they are generated
        raise _own_split(job, folds)
    if folds is not None and job.held_out is not None:
        raise UsageError(f"--held-out {job.held_out}: has no effect with --folds; leave one of them out.")
    inputs = open_inputs(job, quiet)
    if folds is not None and inputs.photos.held_out is not None:
        raise _own_split(job, folds)
    backbone = job_backbone(job, quiet)
    made, test_photos = _make_folds(inputs.photos, job, folds, backbone, quiet)
    data = ExperimentData(inputs, backbone, made, test_photos)
    for sentence in data.graph(job.threshold).fallbacks():
        log(f"note: {sentence}", quiet)
    return data


def _own_split(job: Job, folds: int) -> UsageError:
    return UsageError(f"--folds {folds}: has no effect on --data {job.data}, {OWN_SPLIT}.")


def _make_folds(
    source: Source, job: Job, folds: int | None, backbone: Backbone, quiet: bool
) -> tuple[tuple[Fold, ...], PhotoSet]:
    whole = source.training
    splits = (
        [source.split(job.held_out, job.training.seed)]
        if folds is None
        else list(whole.folds(folds, job.training.seed))  # too many are an error before features are extracted
    )
    tested = splits[0][1] if folds is None else whole
    row_of = {path: row for row, path in enumerate(tested.paths)}
    parts = [part for split in splits for part in split]
    features = iter(extract_parts(backbone, source, parts, job.cache, quiet))
    folds_made = []
    for training, test in splits:
        rows = np.array([row_of[path] for path in test.paths])
        folds_made.append(Fold(training, next(features), next(features), rows))
    return tuple(folds_made), tested
