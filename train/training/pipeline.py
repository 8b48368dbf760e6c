"""One training from photos to checkpoint: the steps of `mlzsl-train`, in order."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mlzsl.cli.errors import UsageError
from mlzsl.cli.progress import log
from mlzsl.graph.classgraph import ClassGraph, build_class_graph
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.embeddings.source import Embeddings, EmbeddingSource
from mlzsl.graph.labels.sets import UNSEEN, LabelSet, load_label_set
from mlzsl.imaging.labelled_folder import check_labels
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.metrics.average_precision import Metrics, evaluate
from mlzsl.metrics.top_k import evaluate_top_k
from mlzsl.train.backbones.backbone import Backbone, open_backbone
from mlzsl.train.backbones.pretraining import pretrain_small_backbone
from mlzsl.train.checkpoint import Checkpoint, save_checkpoint
from mlzsl.train.datasets.registry import default_labels, load_data
from mlzsl.train.datasets.source import OWN_SPLIT, Source
from mlzsl.train.datasets.synthetic.scenes import generate_scenes
from mlzsl.train.extraction.features import Features, extract
from mlzsl.train.models.model import GraphTensors, Model, graph_tensors
from mlzsl.train.models.registry import MODELS, create_model, find_model, settings_of
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE
from mlzsl.train.training.devices import check_precision, device_name, open_device
from mlzsl.train.training.distributed import SINGLE_PROCESS, Processes
from mlzsl.train.training.trainer import TrainingConfig, TrainingData, train

SCENES = "scenes"
SCENES_LABELS = "coco80"
SMALL = "small"
SETTINGS = ("hidden_dim", "layers", "steps", "vae_weight")  # of the job, that are a system's
TRAINING_SCENES, HELD_OUT_SCENES = 4000, 600


@dataclass(frozen=True)
class Job:
    """What to train, on what, and where everything goes.

    Attributes:
        data: "scenes" for the generated set, a folder of images with a labels.json, or FORMAT:PATH (`data.formats`).
        labels: a label set's name or file: Y; None for the one that the data comes with.
        unseen: a named split or a text file of labels; None takes the split of the label set's own name, "none" none.
        model: a name of `MODELS`.
        backbone: "small" (pretrained here on generated pictures) or one of torchvision's ResNets.
        backbone_weights: a local weights file, None for torchvision's.
        image_size: side S of the squashed picture; None for the backbone's own.
        embeddings: "taxonomy" or a text file in GloVe's format.
        threshold: the WUP similarity above which two classes share an edge.
        hidden_dim, layers, steps, vae_weight: of the system (d_h, RGCN layers, propagation steps, λ); None for its own.
        held_out: the share of the photos kept for evaluation, for data without a split of its own; None for 0.2.
        training: the loop's settings.
        device: "cpu" or "cuda", where the system is trained and scored.
        cache: the folder for what can be made again.
        output: the checkpoint to write.
        resume: go on from the state beside `output`.
    """

    data: str = SCENES
    labels: str | None = None
    unseen: str | None = None
    model: str = RGCNPosVAE.name
    backbone: str = SMALL
    backbone_weights: Path | None = None
    image_size: int | None = None
    embeddings: str = "taxonomy"
    threshold: float = 0.5
    hidden_dim: int | None = None
    layers: int | None = None
    steps: int | None = None
    vae_weight: float | None = None
    held_out: float | None = None
    training: TrainingConfig = field(default_factory=TrainingConfig)
    device: str = "cpu"
    cache: Path = Path("mlzsl-cache")
    output: Path = Path("checkpoint.safetensors")
    resume: bool = False


@dataclass(frozen=True)
class TrainingResult:
    """What a training made.

    Attributes:
        checkpoint: the file written.
        metrics: "seen" and "unseen" on the held-out photos.
        record: the training record that the checkpoint carries (JSON).
    """

    checkpoint: Path
    metrics: dict[str, Metrics]
    record: dict[str, Any]


@dataclass(frozen=True)
class _Prepared:
    """What a job comes to before it is trained, on the CPU.

    Attributes:
        labels, seen: Y and Y^s.
        embeddings: where S comes from.
        backbone: the frozen feature extractor.
        graph: of seen, unseen and external classes.
        training_photos: how many there are, those without a seen label among them.
        data: what the loop sees.
        model: the system with its first values.
        held_out: the features of the photos to evaluate on.
        targets: of these, bool [m, N_t].
    """

    labels: LabelSet
    seen: tuple[str, ...]
    embeddings: EmbeddingSource
    backbone: Backbone
    graph: ClassGraph
    training_photos: int
    data: TrainingData
    model: Model
    held_out: Features
    targets: npt.NDArray[np.bool_]


def run(job: Job, quiet: bool = False, processes: Processes = SINGLE_PROCESS) -> TrainingResult:
    """Train a system and write its checkpoint.

    Args:
        job: what to do.
        quiet: show no progress.
        processes: those that train together, on one machine or with one file system: each calls this with the same job.
            The first one fills the cache before the others look, and writes; all return the outcome.

    Raises:
        UsageError: a name, file or folder of the job is unfit, or the device is not there.
        FailureError: the training diverged, a file could not be written, or another process has gone.
    """
    started = time.perf_counter()
    quiet = quiet or not processes.is_main
    with processes.barrier():
        _system_and_settings(job)  # first: what a user mistyped shows here
        device = open_device(job.device, processes.local_rank)
        check_precision(job.training.precision, device)
    with processes.barrier(main_first=True):
        ready = _prepare(job, quiet)
    model = ready.model.to(device)
    history = train(
        model,
        graph_tensors(ready.graph.training()).to(device),
        ready.data.to(device),
        job.training,
        state_path=job.output.with_name(job.output.stem + ".training.safetensors"),
        resume=job.resume,
        quiet=quiet,
        processes=processes,
    )
    trained_after = time.perf_counter() - started
    scores = score(model, graph_tensors(ready.graph).to(device), ready.held_out)
    targets, seen = ready.targets, ready.graph.seen
    metrics = evaluate(scores, targets, seen)
    record = {
        "data": {
            "name": job.data,
            "labels": ready.labels.name,
            "training_photos": ready.training_photos,
            "trained_on": len(ready.data.features),  # those with a seen label
            "held_out": len(scores),
        },
        "settings": asdict(job.training),
        "history": history,
        "metrics": {part: values.to_json() for part, values in metrics.items()},
        "top": {way: [at_k.to_json() for at_k in row] for way, row in evaluate_top_k(scores, targets, seen).items()},
        "seconds": round(trained_after, 1),
        "device": device_name(device),
        "processes": processes.count,
        "torch": torch.__version__,
    }
    checkpoint = Checkpoint(model, ready.backbone, ready.labels, ready.seen, ready.embeddings, job.threshold, record)
    with processes.barrier():
        if processes.is_main:
            save_checkpoint(job.output, checkpoint)
    return TrainingResult(job.output, metrics, record)


def _prepare(job: Job, quiet: bool) -> _Prepared:
    """Photos, graph, features and a system: all that a training needs, the costly parts from the cache if there."""
    labels = target_labels(job)
    unseen = unseen_labels(job.unseen, labels)
    seen = tuple(label for label in labels.labels if label not in unseen)
    embeddings = open_embeddings(job.embeddings)
    check_inputs(job, labels, embeddings)
    training_photos, held_out_photos = labelled_photos(job, labels, quiet).split(job.held_out, job.training.seed)
    backbone = job_backbone(job, quiet)
    graph = build_class_graph(labels, seen, backbone.external, embeddings, threshold=job.threshold)
    log(_describe(graph), quiet)
    for sentence in graph.fallbacks():
        log(f"note: {sentence}", quiet)
    training_features = extract(backbone, training_photos, job.cache, quiet=quiet)
    held_out = extract(backbone, held_out_photos, job.cache, quiet=quiet)
    data = training_data(graph.training(), training_photos, training_features)
    if without := len(training_photos) - len(data.features):
        log(f"{without:,} of {len(training_photos):,} training photos have unseen labels only and are left out", quiet)
    model = new_model(job, backbone, graph, data)
    if not (job.resume and model.learns):  # what goes on has its values already
        model.initialize(graph_tensors(graph.training()), data.features, data.external_probabilities, data.targets)
    targets = target_matrix(graph, held_out_photos)
    return _Prepared(
        labels, seen, embeddings.source, backbone, graph, len(training_photos), data, model, held_out, targets
    )


def target_labels(job: Job) -> LabelSet:
    """Y: the label set that the job names, or the one that its data comes with.

    Raises:
        UsageError: no such label set, or data that has none of its own.
    """
    return load_label_set(job.labels or (SCENES_LABELS if job.data == SCENES else default_labels(job.data)))


def unseen_labels(spec: str | None, labels: LabelSet) -> frozenset[str]:
    """Y^u: the labels of a named split or a file; by default the split of the label set's own name, if it has one.

    Raises:
        UsageError: an unknown split, or a label that the label set does not have.
    """
    if spec == "none" or (spec is None and labels.name not in UNSEEN):
        return frozenset()
    unseen = UNSEEN.get(spec or labels.name)
    if unseen is None:
        if not Path(str(spec)).is_file():
            raise UsageError(
                f"--unseen {spec}: expected one of {', '.join(UNSEEN)}, none, or a text file with a label a line."
            )
        unseen = load_label_set(str(spec)).labels
    strangers = sorted(set(unseen) - set(labels.labels))
    if strangers:
        raise UsageError(
            f"--unseen {spec or labels.name}: {', '.join(strangers[:5])} is not in the label set {labels.name}."
        )
    return frozenset(unseen)


def new_model(job: Job, backbone: Backbone, graph: ClassGraph, data: TrainingData) -> Model:
    """A system of the job's settings with random values drawn from its seed; `start` makes them fit the data."""
    model_class, chosen = _system_and_settings(job)
    classes = len(backbone.external)
    known = {
        "feature_dim": backbone.feature_dim,
        "embedding_dim": graph.embeddings.shape[1],
        "backbone_classes": classes,
        "seen_labels": data.targets.shape[1],
    } | model_class.config_from_data(data.external_probabilities, classes)
    needed = settings_of(job.model)
    config = model_class.config_class(**{name: value for name, value in known.items() if name in needed}, **chosen)
    torch.manual_seed(job.training.seed)
    return create_model(job.model, asdict(config))


def _system_and_settings(job: Job) -> tuple[type[Model], dict[str, float]]:
    """The job's system, and those of its settings that the job chooses.

    Raises:
        UsageError: an unknown system, or a setting that it does not have.
    """
    if job.model not in MODELS:
        raise UsageError(f"--system {job.model}: expected one of {', '.join(MODELS)}.")
    chosen = {name: getattr(job, name) for name in SETTINGS if getattr(job, name) is not None}
    if strangers := sorted(chosen.keys() - settings_of(job.model)):
        flags = ", ".join("--" + name.replace("_", "-") for name in strangers)
        raise UsageError(f"{flags}: system {job.model} has no such setting; leave it out, or choose another --system.")
    return MODELS[job.model], chosen


def training_data(graph: ClassGraph, photos: PhotoSet, features: Features) -> TrainingData:
    """Features and targets of the photos that carry a label of the training graph; only its labels are looked at."""
    targets = target_matrix(graph, photos)
    labelled = targets.any(axis=1)
    tensors = graph_tensors(graph)
    return TrainingData(
        features=torch.from_numpy(features.features[labelled]),
        external_probabilities=tensors.external_probabilities(torch.from_numpy(features.logits[labelled])),
        targets=torch.from_numpy(targets[labelled].astype(np.float32)),
    )


def target_matrix(graph: ClassGraph, photos: PhotoSet) -> npt.NDArray[np.bool_]:
    """I(y): bool [n, N_t], whether a photo carries a target label."""
    return np.array([[label in carried for label in graph.targets] for carried in photos.labels])


@torch.inference_mode()
def score(model: Model, graph: GraphTensors, features: Features, batch_size: int = 64) -> npt.NDArray[np.float32]:
    """Scores of cached features on a graph, float32 [n, N_t]; computed where model and graph are."""
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


def job_backbone(job: Job, quiet: bool) -> Backbone:
    """The frozen feature extractor of a job, read as its system reads it.

    Raises:
        UsageError: unfit weights, or a size that it does not take.
    """
    pooling = find_model(job.model).pooling
    if job.backbone != SMALL:
        backbone = open_backbone(job.backbone, job.backbone_weights, image_size=job.image_size)
    else:
        backbone = pretrain_small_backbone(job.cache, quiet=quiet)
    return backbone.with_pooling(pooling)


def check_inputs(job: Job, labels: LabelSet, embeddings: Embeddings) -> None:
    """Check flags, paths and word vectors before scenes are generated or a backbone is pretrained, which take minutes.

    Raises:
        UsageError: a flag without effect, a missing file, or a file of vectors that is broken or lacks a label.
    """
    if job.backbone == SMALL:
        for flag, value in (("--image-size", job.image_size), ("--backbone-weights", job.backbone_weights)):
            if value is not None:
                raise UsageError(
                    f"{flag} {value}: has no effect on --backbone small; leave it out, or choose a ResNet."
                )
    elif job.backbone_weights is not None and not job.backbone_weights.is_file():
        raise UsageError(f"--backbone-weights {job.backbone_weights}: no such file; expected .safetensors or .pth.")
    if job.data == SCENES and job.held_out is not None:
        raise UsageError(f"--held-out {job.held_out}: has no effect on --data scenes, {OWN_SPLIT}.")
    embeddings.preload(labels, load_label_set("imagenet1k"))  # one reading of the file serves external classes as well
    embeddings.embed(labels, "target")


def labelled_photos(job: Job, labels: LabelSet, quiet: bool) -> Source:
    """The photos of a job's data, with the data's own split where it has one.

    Raises:
        UsageError: data that cannot be read, or photos with labels that the label set lacks.
    """
    if job.data == SCENES:
        folder = job.cache / "scenes"
        source = Source(
            generate_scenes(folder / "train", TRAINING_SCENES, job.training.seed, quiet=quiet),
            generate_scenes(folder / "test", HELD_OUT_SCENES, job.training.seed + 1, quiet=quiet),
        )
    else:
        source = load_data(job.data, labels, quiet)
    for photos in (source.training, source.held_out):
        if photos is not None:
            check_labels(photos, labels.labels)
    return source


def _describe(graph: ClassGraph) -> str:
    return (
        f"class graph: {int(graph.seen.sum())} seen + {int((~graph.seen).sum())} unseen labels, "
        f"{len(graph.externals)} external classes, {graph.edges:,} edges at WUP > {graph.threshold}"
    )
