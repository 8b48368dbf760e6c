"""Runs over seeds and folds, and what they come to together: means, deviations, intervals."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import UsageError
from mlzsl.cli.progress import Progress, log, progress
from mlzsl.graph.classgraph import ClassGraph
from mlzsl.metrics.average_precision import Bools, Floats
from mlzsl.metrics.intervals import bootstrap_interval, bootstrap_metrics
from mlzsl.metrics.summary import METRIC_NAMES, compute_metrics
from mlzsl.train.experiments.data import Subject
from mlzsl.train.experiments.runs import Run, run_once
from mlzsl.train.models.registry import settings_of
from mlzsl.train.training.job import SETTINGS, Job


@dataclass(frozen=True)
class Experiment:
    """What the tables and figures are made of.

    Attributes:
        job: data, backbone, embeddings, settings and first seed. A setting goes to the systems that have it; the seed
            generates and divides the photos, whatever the seeds of the runs; the output is not written.
        seeds: how many trainings of each system, with the job's seed and those that follow it.
        folds: test every photo once, in so many parts; None takes the data's own split or the job's share.
        resamples: how often the tested photos are drawn anew for the intervals; 0 leaves intervals out.
    """

    job: Job = field(default_factory=Job)
    seeds: int = 3
    folds: int | None = None
    resamples: int = 1000

    @property
    def each_seed(self) -> tuple[int, ...]:
        """The seeds, in order."""
        first = self.job.training.seed
        return tuple(range(first, first + self.seeds))

    def job_of(self, system: str, seed: int) -> Job:
        """The job of one run: with the settings that its system has."""
        strange = {name: None for name in SETTINGS if name not in settings_of(system)}
        training = replace(self.job.training, seed=seed)
        return replace(self.job, model=system, training=training, **strange)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Level:
    """One measure of one system over all seeds. NaN is what there is not.

    Attributes:
        mean: over the seeds.
        deviation: the sample standard deviation over the seeds; NaN for one.
        low, high: the 95 % interval of the mean under resampling of the tested photos.
        each: the measure of each seed.
    """

    mean: float
    deviation: float
    low: float
    high: float
    each: tuple[float, ...]


@dataclass(frozen=True)
class Outcome:
    """What one system, as it was set, came to.

    Attributes:
        levels: by measure, in the order of `METRIC_NAMES`.
        seconds: of all its trainings; less than they took, if not `whole`.
        whole: whether none of them was broken off.
    """

    levels: dict[str, Level]
    seconds: float
    whole: bool


@dataclass(frozen=True)
class Setup:
    """One system on one graph: a row of a table or a point of a figure.

    Attributes:
        name: what messages call it.
        job_of: seed -> job.
        graph: the class graph.
    """

    name: str
    job_of: Callable[[int], Job]
    graph: ClassGraph


def run_all(
    experiment: Experiment, subject: Subject, setups: Iterable[Setup], quiet: bool = False
) -> dict[str, Outcome]:
    """Do all runs that are not done yet, and sum them up.

    The runs of the first seed come first, so that a broken experiment has something of every setup.

    Returns:
        by name of the setup, in their order.

    Raises:
        UsageError: a setting that a system does not have.
        FailureError: a training diverged, or the cache cannot be written.
    """
    setups = list(setups)
    runs: dict[str, list[list[Run]]] = {setup.name: [] for setup in setups}  # by seed and division
    total, done = len(setups) * experiment.seeds * len(subject.divisions), 0
    for seed in experiment.each_seed:
        for setup in setups:
            runs[setup.name].append([])
            for fold, division in enumerate(subject.divisions):
                done += 1
                of_fold = f", fold {fold + 1}" if experiment.folds else ""
                log(f"run {done} of {total}: {setup.name}, seed {seed}{of_fold}", quiet)
                run = run_once(setup.job_of(seed), division, setup.graph, subject.backbone, quiet)
                runs[setup.name][-1].append(run)
    kept = sum(run.kept for of_setup in runs.values() for of_seed in of_setup for run in of_seed)
    log(f"{kept} of {total} runs were done before", quiet or not kept)
    with progress("resampling", len(setups) * experiment.seeds, "runs", quiet or not experiment.resamples) as bar:
        return {setup.name: _summed_up(experiment, subject, setup, runs[setup.name], bar) for setup in setups}


def _summed_up(experiment: Experiment, subject: Subject, setup: Setup, runs: list[list[Run]], bar: Progress) -> Outcome:
    targets, seen = subject.targets(setup.graph), setup.graph.seen
    scores, draws = [], []
    for of_seed in runs:
        pooled = np.empty(targets.shape, np.float32)
        for division, run in zip(subject.divisions, of_seed, strict=True):
            pooled[division.places] = run.scores
        scores.append(pooled)
        if experiment.resamples:
            draws.append(bootstrap_metrics(pooled, targets, seen, experiment.resamples, experiment.job.training.seed))
            bar.advance()
    all_runs = [run for of_seed in runs for run in of_seed]
    return Outcome(
        levels_of(scores, targets, seen, draws),
        seconds=sum(run.seconds for run in all_runs),
        whole=all(run.whole for run in all_runs),
    )


def levels_of(
    scores: list[npt.NDArray[np.float32]], targets: Bools, seen: Bools, draws: list[dict[str, Floats]]
) -> dict[str, Level]:
    """Sum up the seeds' scores.

    Args:
        scores: of each seed, float32 [n, N_t].
        targets: bool [n, N_t].
        seen: bool [N_t].
        draws: of each seed the measures on the resampled photos, the same photos for every seed; empty for none.

    Returns:
        by measure.
    """
    measured = [compute_metrics(of_seed, targets, seen) for of_seed in scores]
    levels = {}
    for name in METRIC_NAMES:
        each = tuple(values[name] for values in measured)
        deviation = float(np.std(each, ddof=1)) if len(each) > 1 else math.nan
        mean = float(np.mean(each))
        low, high = math.nan, math.nan
        if draws:
            low, high = bootstrap_interval(mean, np.mean([of_seed[name] for of_seed in draws], axis=0))
        levels[name] = Level(mean, deviation, low, high, each)
    return levels


def check_systems(names: Iterable[str], known: Iterable[str], flag: str) -> tuple[str, ...]:
    """The names, if all are known and none is there twice.

    Raises:
        UsageError: they are not; the sentence names `flag` and what is expected.
    """
    chosen, expected = tuple(names), tuple(known)
    strangers = [name for name in chosen if name not in expected]
    if strangers or not chosen or len(set(chosen)) < len(chosen):
        raise UsageError(f"{flag} {','.join(chosen)}: expected different ones of {', '.join(expected)}.")
    return chosen
