"""One training of an experiment, kept when it is finished: an experiment that was broken off goes on where it stopped.

A run's file is named by a hash of all that its scores depend on, so it is never taken for another's; equal runs of
several tables are one. A run that was killed goes on from its last whole epoch.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.outputs import sha256_of_bytes, sha256_of_file
from mlzsl.cli.progress import log
from mlzsl.graph.classgraph import ClassGraph
from mlzsl.train.backbones.backbone import Backbone
from mlzsl.train.experiments.data import Division
from mlzsl.train.extraction.cache import load_cached, save_cached
from mlzsl.train.models.model import GraphTensors, Model, graph_tensors
from mlzsl.train.models.registry import config_of
from mlzsl.train.training.job import Job, new_model
from mlzsl.train.training.pipeline import score, training_data
from mlzsl.train.training.trainer import TrainingConfig, TrainingData, train

RECIPE = "run 1"  # to be raised when a run of the same key would end with other scores
OURS = "mlzsl.train."

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Run:
    """What a training came to.

    Attributes:
        scores: of the tested photos of its division, float32 [m, N_t].
        seconds: what the training took; of its last part, if it was broken off.
        whole: whether it was never broken off.
        kept: whether it was there already.
    """

    scores: Floats
    seconds: float
    whole: bool
    kept: bool


def run_once(job: Job, division: Division, graph: ClassGraph, backbone: Backbone, quiet: bool = False) -> Run:
    """Train the job's system on one division and score the photos it did not see, or recall both.

    Args:
        job: system, settings and seed; its cache keeps the run, its output is not written.
        division: the photos.
        graph: of seen, unseen and external classes.
        backbone: that the features came from; the system may read less of them.
        quiet: show no progress.

    Raises:
        UsageError: a setting that the system does not have.
        FailureError: the training diverged, or the cache cannot be written.
    """
    division, backbone = division.read_for(job.model, backbone)
    training_graph, whole_graph = graph_tensors(graph.training()), graph_tensors(graph)
    data = training_data(graph.training(), division.training, division.training_features)
    fresh = partial(new_model, job, backbone, graph, data)
    key = _key(job, fresh(), training_graph, whole_graph, data, division)
    path = job.cache / "runs" / f"{job.model}-seed{job.training.seed}-{key[:16]}.safetensors"
    if (found := load_cached(path, key)) is not None:
        arrays, record = found
        return Run(arrays["scores"], float(record["seconds"]), bool(record["whole"]), kept=True)
    if path.exists():
        log(f"note: {path} is damaged; this run is done again", quiet)
    started = time.perf_counter()
    state = path.with_suffix(".training.safetensors")
    try:
        model, resumed = _trained(fresh, training_graph, data, job.training, state, quiet)
    except FailureError as error:
        raise FailureError(f"{job.model}, seed {job.training.seed}: {error}") from error
    scores = score(model, whole_graph, division.tested_features)
    seconds = round(time.perf_counter() - started, 1)
    record = {"system": job.model, "settings": _settings(job, model), "seconds": seconds, "whole": not resumed}
    save_cached(path, key, {"scores": scores}, record)
    state.unlink(missing_ok=True)
    return Run(scores, seconds, whole=not resumed, kept=False)


def _trained(
    fresh: Callable[[], Model],
    tensors: GraphTensors,
    data: TrainingData,
    config: TrainingConfig,
    state: Path,
    quiet: bool,
) -> tuple[Model, bool]:
    """The trained system, and whether it went on from a state that a broken run had left."""
    if state.exists():
        model = fresh()
        try:
            train(model, tensors, data, config, state, resume=True, quiet=quiet)
            return model, True
        except UsageError as error:
            log(f"note: {error} The run begins anew.", quiet)
    model = fresh()
    model.initialize(tensors, data.features, data.external_probabilities, data.targets)
    train(model, tensors, data, config, state, quiet=quiet)
    return model, False


def _settings(job: Job, model: Model) -> dict[str, object]:
    return {"model": config_of(model), "training": asdict(job.training)}


def _key(
    job: Job,
    model: Model,
    training_graph: GraphTensors,
    graph: GraphTensors,
    data: TrainingData,
    division: Division,
) -> str:
    """A hash of settings, program, graph, training data and tested photos: of all that the scores depend on."""
    settings = _settings(job, model) | {"recipe": RECIPE, "system": job.model, "torch": torch.__version__}
    tensors = (
        each for of in (training_graph, graph) for each in (of.embeddings, of.edges, of.external_logits, of.is_a)
    )
    return sha256_of_bytes(
        json.dumps(settings, sort_keys=True).encode(),
        *(sha256_of_file(path).encode() for path in program_files(type(model).__module__)),
        *(tensor.numpy().tobytes() for tensor in tensors),
        data.key().encode(),
        division.tested_features.features.tobytes(),
        division.tested_features.logits.tobytes(),
    )


def program_files(module: str) -> list[Path]:
    """The source files that decide what a system of `module` learns: its own, what that imports, and the loop's."""
    waiting, found = [module], {train.__module__}
    while waiting:
        name = waiting.pop()
        if name.startswith(OURS) and name not in found:
            found.add(name)
            waiting += [str(getattr(value, "__module__", "")) for value in vars(sys.modules[name]).values()]
    return sorted(Path(str(sys.modules[name].__file__)) for name in found)
