"""The training pipeline from photos to a checkpoint: the steps of `mlzsl-train`, in order."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mlzsl.cli.errors import UsageError
from mlzsl.cli.progress import log
from mlzsl.graph.classgraph import ClassGraph
from mlzsl.graph.overlap import described_overlap
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.metrics.average_precision import Metrics, evaluate
from mlzsl.metrics.top_k import evaluate_top_k
from mlzsl.train.checkpoint import Checkpoint, save_checkpoint
from mlzsl.train.extraction.features import Features, extract_parts
from mlzsl.train.models.model import GraphTensors, Model, graph_tensors
from mlzsl.train.models.registry import MODELS
from mlzsl.train.training.devices import check_precision, device_name, open_device
from mlzsl.train.training.distributed import SINGLE_PROCESS, Processes
from mlzsl.train.training.job import Job, class_graph, job_backbone, most_externals, new_model, open_inputs
from mlzsl.train.training.trainer import TrainingData, train


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training.

    Attributes:
        checkpoint: the file written.
        metrics: of "seen" and "unseen" labels on the held-out photos.
        record: the training record in the checkpoint (JSON).
    """

    checkpoint: Path
    metrics: dict[str, Metrics]
    record: dict[str, Any]


def run(job: Job, quiet: bool = False, processes: Processes = SINGLE_PROCESS) -> TrainingResult:
    """Train a model and write its checkpoint.

    Args:
        job: what to train.
        quiet: show no progress.
        processes: those that train together, with one file system: each calls this with the same job. The main one
            fills the cache before the others read it, and writes the checkpoint; all return the result.

    Raises:
        UsageError: a name, file or folder of the job is invalid, or the device is not available.
        FailureError: the training diverged, a file could not be written, or another process ended.
    """
    started = time.perf_counter()
    quiet = quiet or not processes.is_main
    with processes.barrier():
        if job.model not in MODELS:  # typing errors are reported first
            raise UsageError(f"--model {job.model}: expected one of {', '.join(MODELS)}.")
        model_class = MODELS[job.model]
        device = open_device(job.device, processes.local_rank)
        check_precision(job.training.precision, device)
    with processes.barrier(main_first=True):
        inputs = open_inputs(job, quiet)
        training_photos, held_out_photos = inputs.photos.split(job.held_out, job.training.seed)
        backbone = job_backbone(job, quiet)
        graph = class_graph(job, inputs, backbone)
        edges = "" if graph.adjacency is None else f", {graph.edges:,} edges at WUP > {graph.threshold}"
        log(
            f"class graph: {int(graph.seen.sum())} seen + {int((~graph.seen).sum())} unseen labels, "
            f"{len(graph.externals):,} external classes{edges}",
            quiet,
        )
        if sentence := described_overlap(graph.shared, backbone.external, job.overlap or model_class.overlap):
            log(sentence, quiet)
        for sentence in graph.fallbacks():
            log(f"note: {sentence}", quiet)
        training_features, held_out = (
            features.for_backbone(backbone)
            for features in extract_parts(backbone, inputs.photos, [training_photos, held_out_photos], job.cache, quiet)
        )
        data = training_data(graph.training(), training_photos, training_features)
        if without := len(training_photos) - len(data.features):
            log(
                f"{without:,} of {len(training_photos):,} training photos have unseen labels only and are left out",
                quiet,
            )
        model = new_model(job, backbone, graph, data)
        if not (job.resume and model.learns):  # parameters are read from the training state
            model.initialize(graph_tensors(graph.training()), data.features, data.external_probabilities, data.targets)
        targets = target_matrix(graph, held_out_photos)
    history = train(
        model.to(device),
        graph_tensors(graph.training()).to(device),
        data.to(device),
        job.training,
        state_path=job.output.with_name(job.output.stem + ".training.safetensors"),
        resume=job.resume,
        quiet=quiet,
        processes=processes,
    )
    seconds = time.perf_counter() - started
    scores = score(model, graph_tensors(graph).to(device), held_out)
    metrics, top = evaluate(scores, targets, graph.seen), evaluate_top_k(scores, targets, graph.seen)
    record = {
        "data": {
            "name": job.data,
            "labels": inputs.labels.name,
            "training_photos": len(training_photos),
            "trained_on": len(data.features),  # those with a seen label
            "held_out": len(scores),
        },
        "settings": asdict(job.training),
        "history": history,
        "metrics": {part: values.to_json() for part, values in metrics.items()},
        "top": {ranking: [at_k.to_json() for at_k in row] for ranking, row in top.items()},
        "seconds": round(seconds, 1),
        "device": device_name(device),
        "processes": processes.count,
        "torch": torch.__version__,
    }
    with processes.barrier():
        if processes.is_main:
            source = inputs.embeddings.source
            checkpoint = Checkpoint(
                model,
                backbone,
                inputs.labels,
                inputs.seen,
                source,
                job.threshold,
                record,
                job.overlap or model_class.overlap,
                most_externals(job),
            )
            save_checkpoint(job.output, checkpoint)
    return TrainingResult(job.output, metrics, record)


def training_data(graph: ClassGraph, photos: PhotoSet, features: Features) -> TrainingData:
    """Features and targets of the photos that have a label of the training graph; other labels are ignored."""
    targets = target_matrix(graph, photos)
    labelled = targets.any(axis=1)
    tensors = graph_tensors(graph)
    return TrainingData(
        features=torch.from_numpy(features.features[labelled]),
        external_probabilities=tensors.external_probabilities(torch.from_numpy(features.logits[labelled])),
        targets=torch.from_numpy(targets[labelled].astype(np.float32)),
    )


def target_matrix(graph: ClassGraph, photos: PhotoSet) -> npt.NDArray[np.bool_]:
    """I(y): bool [n, N_t], whether a photo has a target label."""
    return photos.targets(graph.targets)


@torch.inference_mode()
def score(model: Model, graph: GraphTensors, features: Features, batch_size: int = 64) -> npt.NDArray[np.float32]:
    """Score cached features on a graph, float32 [n, N_t], on the device of model and graph."""
    model.eval()
    device = graph.embeddings.device
    batches = zip(
        torch.from_numpy(features.features).split(batch_size),
        torch.from_numpy(features.logits).split(batch_size),
        strict=True,
    )
    scores = [
        model(x.to(device), graph.external_probabilities(logits.to(device)), graph).cpu() for x, logits in batches
    ]
    return torch.cat(scores).numpy()
