"""What to train and on what: a job names labels, photos, backbone and model; these functions open them."""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from mlzsl.cli.errors import UsageError
from mlzsl.cli.text import first_of, label_finder
from mlzsl.graph.classgraph import ClassGraph, build_class_graph
from mlzsl.graph.embeddings.source import TAXONOMY, Embeddings
from mlzsl.graph.labels.sets import UNSEEN, LabelSet, load_label_set, read_label_file
from mlzsl.graph.overlap import Overlap
from mlzsl.imaging.labelled_folder import check_labels
from mlzsl.imaging.preprocessing import Fit
from mlzsl.train.backbones.architectures import check_name
from mlzsl.train.backbones.backbone import GAP, Backbone, Pooling
from mlzsl.train.backbones.clip import CLIP
from mlzsl.train.backbones.opening import open_backbone
from mlzsl.train.backbones.pretraining import pretrain_small_backbone
from mlzsl.train.datasets.registry import default_labels, load_data
from mlzsl.train.datasets.source import OWN_SPLIT, Source
from mlzsl.train.datasets.synthetic.scenes import generate_scenes
from mlzsl.train.embeddings import clip_spec, open_embeddings
from mlzsl.train.models.model import Model
from mlzsl.train.models.registry import create_model, find_model, settings_of
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE
from mlzsl.train.training.trainer import TrainingConfig, TrainingData

SCENES = "scenes"
SCENES_LABELS = "coco80"
SMALL = "small"
SETTINGS = ("hidden_dim", "layers", "steps", "vae_weight")  # of a job, for its model's configuration
MOST_GRAPH_EXTERNALS = 1000  # of a model with edges: there are as many edge weights as pairs of classes
TRAINING_SCENES, HELD_OUT_SCENES = 4000, 600


@dataclass(frozen=True)
class Job:
    """A training: its data, model, hyperparameters and files.

    Attributes:
        data: "scenes" for generated photos, a folder of photos with a labels.json, or FORMAT:PATH
            (`datasets.registry`).
        labels: the name or file of the label set Y; None for the data's own.
        skip_unlinked: leave out the labels of a file that have no synset.
        unseen: a named split or a text file of labels; None for the split of the label set's name, "none" for none.
        model: a name of `MODELS`.
        backbone: "small", pretrained on generated images, or a name that `open_backbone` takes.
        backbone_weights: a local weights file; None for the published ones.
        image_size: side S of the images in pixels; None for the backbone's default.
        fit: "squash" or "crop"; None for squash.
        pooling: "dense" or "global", of a model that reads more than x; None for dense.
        embeddings: a name or file that `open_embeddings` takes.
        threshold: the WUP similarity above which two classes share an edge.
        overlap: whether the class graph keeps external classes that are labels; None for the model's default.
        external_classes: the largest number of external classes in the class graph; None for the model's default.
        hidden_dim, layers, steps, vae_weight: of the model (d_h, RGCN layers, propagation steps, λ); None for its
            defaults.
        held_out: the share of photos for evaluation, for data without a split of its own; None for 0.2.
        training: hyperparameters of the training loop.
        device: "cpu" or "cuda", for training and scoring.
        cache: the folder for generated scenes, the small backbone and features.
        output: the checkpoint to write.
        resume: continue from the training state next to `output`.
    """

    data: str = SCENES
    labels: str | None = None
    skip_unlinked: bool = False
    unseen: str | None = None
    model: str = RGCNPosVAE.name
    backbone: str = SMALL
    backbone_weights: Path | None = None
    image_size: int | None = None
    fit: Fit | None = None
    pooling: Pooling | None = None
    embeddings: str = TAXONOMY
    threshold: float = 0.5
    overlap: Overlap | None = None
    external_classes: int | None = None
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
class Inputs:
    """The opened inputs of a job.

    Attributes:
        labels: Y.
        seen: Y^s, in the order of Y.
        embeddings: the source of S.
        photos: the dataset, with its own split if it has one.
    """

    labels: LabelSet
    seen: tuple[str, ...]
    embeddings: Embeddings
    photos: Source


def open_inputs(job: Job, quiet: bool = False) -> Inputs:
    """Open labels, embeddings and photos; cheap checks come before photos are generated.

    Raises:
        UsageError: a name, flag or file of the job is invalid.
    """
    name = job.labels or (SCENES_LABELS if job.data == SCENES else default_labels(job.data))
    labels = load_label_set(name, job.skip_unlinked, quiet, needed_by=needs_synsets(job))
    unseen = unseen_labels(job.unseen, labels)
    seen = tuple(label for label in labels.labels if label not in unseen)
    check_towers(job)
    embeddings = open_embeddings(embeddings_spec(job), quiet)
    check_inputs(job, labels, embeddings)
    return Inputs(labels, seen, embeddings, labelled_photos(job, labels, quiet))


def needs_synsets(job: Job) -> str | None:
    """What of a job needs the synset of every label; None if nothing does."""
    if find_model(job.model).uses_graph:
        return f"model {job.model}"
    return f"--embeddings {TAXONOMY}" if job.embeddings == TAXONOMY else None


def unseen_labels(spec: str | None, labels: LabelSet) -> frozenset[str]:
    """Y^u: the labels of a named split or a file; by default those of the split named like the label set, if any.

    A file is read like one of labels, and its labels are spelled in any way (`cli.text.label_key`); those that the
    label set skipped are ignored.

    Raises:
        UsageError: an unknown split, or labels that are not in the label set.
    """
    if spec == "none" or (spec is None and labels.name not in UNSEEN):
        return frozenset()
    names = UNSEEN.get(spec or labels.name)
    if names is None:
        if not os.path.isfile(str(spec)):
            raise UsageError(
                f"--unseen {spec}: expected one of {', '.join(UNSEEN)}, none, or a text file with a label per line."
            )
        file = read_label_file(str(spec))
        if file.problems:
            raise UsageError(f"--unseen {file.problems[0][1]}")
        names = tuple(line.label for line in file.lines)
    find_label = label_finder((*labels.labels, *labels.skipped))
    found = {name: label for name in names if (label := find_label(name)) is not None}
    if unknown := [name for name in names if name not in found]:
        raise UsageError(f"--unseen {spec or labels.name}: not in the label set {labels.name}: {first_of(unknown)}.")
    return frozenset(found.values()) & frozenset(labels.labels)


def check_inputs(job: Job, labels: LabelSet, embeddings: Embeddings) -> None:
    """Check flags, paths and word vectors before scenes are generated or a backbone is pretrained, which take minutes.

    Raises:
        UsageError: a flag without effect, a missing file, or a file of vectors that is damaged or lacks a label.
    """
    if job.backbone == SMALL:
        flags = {"--image-size": job.image_size, "--backbone-weights": job.backbone_weights, "--fit": job.fit}
        for flag, value in flags.items():
            if value is not None:
                raise UsageError(
                    f"{flag} {value}: has no effect on --backbone small; leave it out, or choose another backbone."
                )
    else:
        check_name(job.backbone)
        if job.backbone_weights is not None and not job.backbone_weights.is_file():
            raise UsageError(f"--backbone-weights {job.backbone_weights}: no such file; expected .safetensors or .pth.")
    if job.data == SCENES and job.held_out is not None:
        raise UsageError(f"--held-out {job.held_out}: has no effect on --data scenes, {OWN_SPLIT}.")
    embeddings.preload(labels, load_label_set("imagenet1k"))  # external classes then need no second pass over the file
    embeddings.embed(labels, "target")


def labelled_photos(job: Job, labels: LabelSet, quiet: bool) -> Source:
    """Open the photos of a job's data, or generate them.

    Raises:
        UsageError: data that cannot be read, or photos with labels that are not in the label set.
    """
    if job.data == SCENES:
        folder = job.cache / "scenes"
        source = Source(
            generate_scenes(folder / "train", TRAINING_SCENES, job.training.seed, quiet=quiet),
            generate_scenes(folder / "test", HELD_OUT_SCENES, job.training.seed + 1, quiet=quiet),
        )
    else:
        source = load_data(job.data, labels, quiet)
    held_out = source.held_out and check_labels(source.held_out, labels.labels, labels.skipped)
    return Source(check_labels(source.training, labels.labels, labels.skipped), held_out)


def job_backbone(job: Job, quiet: bool) -> Backbone:
    """Open or pretrain the backbone of a job, with the pooling of its model.

    Raises:
        UsageError: invalid weights, or a backbone without what its model reads.
    """
    if job.backbone == SMALL:
        backbone = pretrain_small_backbone(job.cache, quiet=quiet)
    else:
        backbone = open_backbone(job.backbone, job.backbone_weights, job.image_size, job.fit or "squash", quiet)
    return backbone.with_pooling(pooling_of(job, job.model))


def class_graph(job: Job, inputs: Inputs, backbone: Backbone) -> ClassGraph:
    """The class graph of a job's model.

    Raises:
        UsageError: a label without a vector.
    """
    model = find_model(job.model)
    return build_class_graph(
        inputs.labels,
        inputs.seen,
        backbone.external,
        inputs.embeddings,
        threshold=job.threshold,
        overlap=job.overlap or model.overlap,
        most_externals=most_externals(job),
        edges=model.uses_graph,
    )


def most_externals(job: Job) -> int | None:
    """The largest number of external classes in the class graph of a job's model; None for all."""
    return job.external_classes or (MOST_GRAPH_EXTERNALS if find_model(job.model).uses_graph else None)


def pooling_of(job: Job, model: str) -> Pooling:
    """The pooling of the backbone in front of a model: the job's, where the model reads more than x."""
    wanted = find_model(model).pooling
    return wanted if wanted == GAP else job.pooling or wanted


def embeddings_spec(job: Job) -> str:
    """The job's embeddings; the text tower of a CLIP backbone has its weights from the backbone's file."""
    own = job.embeddings == job.backbone and job.backbone.startswith(CLIP)
    return clip_spec(job.backbone, job.backbone_weights) if own else job.embeddings


def check_towers(job: Job) -> None:
    """Check that the job's model, if it compares photos and labels by CLIP, gets both from one CLIP model.

    Raises:
        UsageError: it does not, or the model is unknown.
    """
    if not find_model(job.model).needs_clip:
        return
    if not job.backbone.startswith(CLIP):
        raise UsageError(f"model {job.model}: needs a CLIP model, but --backbone is {job.backbone}; name a clip:NAME.")
    if job.embeddings != job.backbone:
        raise UsageError(
            f"model {job.model}: compares photos and labels by the two towers of one CLIP model, but --backbone is "
            f"{job.backbone} and --embeddings {job.embeddings}; leave --embeddings out."
        )


def new_model(job: Job, backbone: Backbone, graph: ClassGraph, data: TrainingData) -> Model:
    """Create the job's model with random parameters drawn from its seed; `Model.initialize` then uses the data.

    Raises:
        UsageError: an unknown model.
        TypeError: a setting that the model does not have; `options.job_from_flags` refuses its flag.
    """
    model_class, classes = find_model(job.model), len(backbone.external)
    settings = {name: getattr(job, name) for name in SETTINGS if getattr(job, name) is not None}
    known = {
        "feature_dim": backbone.feature_dim,
        "embedding_dim": graph.embeddings.shape[1],
        "backbone_classes": classes,
        "seen_labels": data.targets.shape[1],
    } | model_class.config_from_data(data.external_probabilities, classes)
    needed = settings_of(job.model)
    config = model_class.config_class(**{name: value for name, value in known.items() if name in needed}, **settings)
    torch.manual_seed(job.training.seed)
    model = create_model(job.model, asdict(config))
    model.use_classifier(backbone.classifier)
    return model
