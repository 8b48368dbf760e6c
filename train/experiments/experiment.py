"""An experiment: model variants trained over seeds and folds, finished runs cached, and estimates with intervals.

The file of a run is named by a hash of everything that its scores depend on, so equal runs of a table and a figure are
trained once. An interrupted run resumes from its last complete epoch.
"""

import json
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.cli.progress import log, progress
from mlzsl.graph.classgraph import ClassGraph
from mlzsl.metrics.average_precision import Bools, Floats
from mlzsl.metrics.intervals import bootstrap_interval, bootstrap_metrics
from mlzsl.metrics.summary import METRIC_NAMES, compute_metrics
from mlzsl.train.backbones.backbone import Backbone
from mlzsl.train.experiments.data import ExperimentData, Fold
from mlzsl.train.extraction.cache import load_cached, save_cached
from mlzsl.train.models.model import GraphTensors, Model, graph_tensors
from mlzsl.train.models.registry import config_of, find_model, settings_of
from mlzsl.train.training.job import SETTINGS, Job, new_model, pooling_of
from mlzsl.train.training.pipeline import score, training_data
from mlzsl.train.training.trainer import TrainingConfig, TrainingData, train

# The scores of a run depend on code that no setting names: the models' arithmetic and the trainer's. The hash of these
# packages' sources is part of the key of a run, so that a changed program never reuses scores of an earlier one.
SOURCE_PACKAGES = ("mlzsl.train.models", "mlzsl.train.training")


@dataclass(frozen=True)
class Experiment:
    """The settings of a table or figure.

    Attributes:
        job: data, backbone, embeddings, settings and first seed. A model takes the settings that it has. The seed
            generates and splits the photos, whatever the seeds of the runs. The output is not written.
        seeds: the number of trainings of each variant, with the job's seed and those that follow it.
        folds: the number of cross-validation folds; None for the data's own split or the job's share.
        resamples: the number of bootstrap resamples of the test photos for intervals; 0 for no intervals.
    """

    job: Job = field(default_factory=Job)
    seeds: int = 3
    folds: int | None = None
    resamples: int = 1000

    @property
    def seed_values(self) -> range:
        """The seeds, in order."""
        return range(self.job.training.seed, self.job.training.seed + self.seeds)

    def job_of(self, model: str) -> Job:
        """The job of a model, with the settings that the model has, and the embeddings that it needs."""
        absent = {name: None for name in SETTINGS if name not in settings_of(model)}
        embeddings = self.job.backbone if find_model(model).needs_clip else self.job.embeddings
        return replace(self.job, model=model, embeddings=embeddings, **absent)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Variant:
    """A model with its settings on a class graph: a row of a table or a point of a figure.

    Attributes:
        name: in messages and results.
        job: model and settings; each run replaces the seed.
        graph: the class graph.
    """

    name: str
    job: Job
    graph: ClassGraph


@dataclass(frozen=True)
class Estimate:
    """A measure of a variant over all seeds; NaN where it is undefined.

    Attributes:
        mean: over the seeds.
        deviation: the sample standard deviation over the seeds; NaN for one seed.
        low, high: the 95 % interval of the mean under resampling of the test photos.
        per_seed: the measure of each seed.
    """

    mean: float
    deviation: float
    low: float
    high: float
    per_seed: tuple[float, ...]


@dataclass(frozen=True)
class Result:
    """The result of a variant.

    Attributes:
        estimates: by measure, in the order of `METRIC_NAMES`.
        seconds: of all its trainings; a lower bound if one was interrupted.
        interrupted: whether one of its trainings was interrupted and resumed.
    """

    estimates: dict[str, Estimate]
    seconds: float
    interrupted: bool


@dataclass(frozen=True)
class Run:
    """One training, tested.

    Attributes:
        scores: of the test photos of its fold, float32 [m, N_t].
        seconds: of the training; of its last part if it was interrupted.
        interrupted: whether the training was interrupted and resumed.
        cached: whether it was loaded from the cache.
    """

    scores: npt.NDArray[np.float32]
    seconds: float
    interrupted: bool
    cached: bool


def run_all(
    experiment: Experiment, data: ExperimentData, variants: Iterable[Variant], quiet: bool = False
) -> dict[str, Result]:
    """Train and test every variant with every seed on every fold, or load finished runs from the cache.

    All variants run with the first seed before any runs with the second.

    Returns:
        Results by the names of the variants, in their order.

    Raises:
        UsageError: a setting that a model does not have.
        FailureError: a training diverged, or the cache cannot be written.
    """
    variants, runs = list(variants), dict[tuple[str, int], list[Run]]()
    plan = list(product(experiment.seed_values, variants, enumerate(data.folds, 1)))
    for number, (seed, variant, (fold_number, fold)) in enumerate(plan, 1):
        of_fold = f", fold {fold_number}" if experiment.folds else ""
        log(f"run {number} of {len(plan)}: {variant.name}, seed {seed}{of_fold}", quiet)
        job = replace(variant.job, training=replace(variant.job.training, seed=seed))
        run = run_once(job, fold, variant.graph, data.backbone, quiet)
        runs.setdefault((variant.name, seed), []).append(run)
    cached = sum(run.cached for of_seed in runs.values() for run in of_seed)
    log(f"{cached} of {len(plan)} runs were cached", quiet or not cached)
    results, first_seed = {}, experiment.job.training.seed  # it draws the same photos for all variants and seeds
    with progress("resampling", len(variants) * experiment.seeds, "runs", quiet or not experiment.resamples) as bar:
        for variant in variants:
            targets, seen = data.targets(variant.graph), variant.graph.seen
            scores, draws = [], []
            for seed in experiment.seed_values:
                pooled = np.empty(targets.shape, np.float32)
                for fold, run in zip(data.folds, runs[variant.name, seed], strict=True):
                    pooled[fold.rows] = run.scores
                scores.append(pooled)
                if experiment.resamples:
                    draws.append(bootstrap_metrics(pooled, targets, seen, experiment.resamples, first_seed))
                    bar.advance()
            own_runs = [run for seed in experiment.seed_values for run in runs[variant.name, seed]]
            results[variant.name] = Result(
                estimates_of(scores, targets, seen, draws),
                seconds=sum(run.seconds for run in own_runs),
                interrupted=any(run.interrupted for run in own_runs),
            )
    return results


def estimates_of(
    scores: list[npt.NDArray[np.float32]], targets: Bools, seen: Bools, draws: list[dict[str, Floats]]
) -> dict[str, Estimate]:
    """Aggregate the scores of all seeds.

    Args:
        scores: of each seed, float32 [n, N_t].
        targets: bool [n, N_t].
        seen: bool [N_t].
        draws: of each seed the measures on the resampled photos, the same photos for every seed; empty for none.

    Returns:
        Estimates by measure.
    """
    measured = [compute_metrics(of_seed, targets, seen) for of_seed in scores]
    estimates = {}
    for name in METRIC_NAMES:
        per_seed = tuple(values[name] for values in measured)
        mean, low, high = float(np.mean(per_seed)), math.nan, math.nan
        deviation = float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else math.nan
        if draws:
            low, high = bootstrap_interval(mean, np.mean([of_seed[name] for of_seed in draws], axis=0))
        estimates[name] = Estimate(mean, deviation, low, high, per_seed)
    return estimates


def run_once(job: Job, fold: Fold, graph: ClassGraph, backbone: Backbone, quiet: bool = False) -> Run:
    """Train the job's model on a fold and score the fold's test photos, or load both from the cache.

    Args:
        job: model, settings, seed and cache folder; the output is not written.
        fold: the photos.
        graph: of seen, unseen and external classes.
        backbone: that the features are of; a model may take fewer of them.
        quiet: show no progress.

    Raises:
        UsageError: a setting that the model does not have.
        FailureError: the training diverged, or the cache cannot be written.
    """
    backbone = backbone.with_pooling(pooling_of(job, job.model))
    test = fold.test_features.for_backbone(backbone)
    training_graph, test_graph = graph_tensors(graph.training()), graph_tensors(graph)
    data = training_data(graph.training(), fold.training, fold.training_features.for_backbone(backbone))
    model = new_model(job, backbone, graph, data)
    settings = {"model": job.model, "config": config_of(model), "training": asdict(job.training)}
    key = sha256_of_bytes(
        json.dumps(settings | {"torch": torch.__version__}, sort_keys=True).encode(),
        source_sha256(SOURCE_PACKAGES).encode(),
        *(each.tobytes() for each in (graph.embeddings, graph.external_logits, graph.seen)),
        test_graph.edges.numpy().tobytes(),
        test_graph.is_a.numpy().tobytes(),
        data.key().encode(),
        test.features.tobytes(),
        test.logits.tobytes(),
    )
    path = job.cache / "runs" / f"{job.model}-seed{job.training.seed}-{key[:16]}.safetensors"
    if (found := load_cached(path, key)) is not None:
        arrays, record = found
        return Run(arrays["scores"], float(record["seconds"]), bool(record["interrupted"]), cached=True)
    if path.exists():
        log(f"note: {path} is damaged; the run is repeated", quiet)
    started, state = time.perf_counter(), path.with_suffix(".training.safetensors")
    try:
        resumed = state.exists() and _resume(model, training_graph, data, job.training, state, quiet)
        if not resumed:
            model = new_model(job, backbone, graph, data)
            model.initialize(training_graph, data.features, data.external_probabilities, data.targets)
            train(model, training_graph, data, job.training, state, quiet=quiet)
    except FailureError as error:
        raise FailureError(f"{job.model}, seed {job.training.seed}: {error}") from error
    scores, seconds = score(model, test_graph, test), round(time.perf_counter() - started, 1)
    save_cached(path, key, {"scores": scores}, settings | {"seconds": seconds, "interrupted": resumed})
    state.unlink(missing_ok=True)
    return Run(scores, seconds, resumed, cached=False)


def _resume(
    model: Model, graph: GraphTensors, data: TrainingData, config: TrainingConfig, state: Path, quiet: bool
) -> bool:
    """Resume the training of an interrupted run; False if its state is damaged or of another run."""
    try:
        train(model, graph, data, config, state, resume=True, quiet=quiet)
    except UsageError as error:
        log(f"note: {error} The run is repeated from the start.", quiet)
        return False
    return True


def source_sha256(packages: Iterable[str]) -> str:
    """Hash the source files of packages."""
    folders = [Path(str(resources.files(package))) for package in packages]
    return sha256_of_bytes(*(path.read_bytes() for folder in folders for path in sorted(folder.rglob("*.py"))))


def check_models(names: Iterable[str], known: Iterable[str], flag: str) -> tuple[str, ...]:
    """Return the names if all are known and different.

    Raises:
        UsageError: they are not; `flag` is the flag that the names come from.
    """
    chosen, expected = tuple(names), tuple(known)
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(expected):
        raise UsageError(f"{flag} {','.join(chosen)}: expected different ones of {', '.join(expected)}.")
    return chosen
