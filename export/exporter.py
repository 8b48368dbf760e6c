"""Checkpoint + label set -> one checked model file."""

import tempfile
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from mlzsl.cli.errors import FailureError
from mlzsl.cli.outputs import sha256_of_file
from mlzsl.cli.progress import log
from mlzsl.engines.artifact.manifest import SCHEMA_VERSION, Label, Manifest
from mlzsl.engines.artifact.modelfile import write_model_file
from mlzsl.engines.opening import open_engine
from mlzsl.export.cost_sheet import CostSheet, multiply_adds
from mlzsl.export.folding.fold import fold
from mlzsl.export.network import Scorer, example_images, without_batch_norm
from mlzsl.export.reference import open_same_embeddings, reference_scorer, testing_graph
from mlzsl.export.unfolded_head import unfolded_head
from mlzsl.graph.classgraph import ClassGraph
from mlzsl.graph.embeddings.source import MINILM, Embeddings
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.graph.overlap import Overlap, described_overlap
from mlzsl.imaging.preprocessing import Fit
from mlzsl.train.backbones.opening import open_backbone
from mlzsl.train.checkpoint import Checkpoint, load_checkpoint
from mlzsl.train.datasets.synthetic.scenes import golden_scenes
from mlzsl.train.embeddings import open_embeddings
from mlzsl.train.models.model import graph_tensors
from mlzsl.train.models.registry import find_model
from mlzsl.train.training.job import Job, check_towers, embeddings_spec
from mlzsl.train.training.untrained import untrained_checkpoint

OPSET = 20
TOLERANCE = 1e-5  # of a score, from the PyTorch reference, in fp32
GOLDEN_IMAGES = 4


@dataclass(frozen=True)
class Export:
    """The result of an export."""

    path: Path
    graph: ClassGraph
    cost: CostSheet
    seconds: float
    overlap: str | None  # a sentence on the external classes that are labels


def export_model(
    checkpoint_path: Path,
    labels: LabelSet | None,
    output: Path,
    embeddings: str | None = None,
    folded: bool = True,
    overlap: Overlap | None = None,
) -> Export:
    """Export the model of a checkpoint file; see `export_checkpoint`.

    Args:
        checkpoint_path: written by `mlzsl-train`.
        labels: the labels to tag with, seen in training or not; None for those of the training.
        output: the `.onnx` file to write.
        embeddings: the embeddings of the training, if their file was moved.
        folded: False exports the unfolded head, for comparison.
        overlap: whether to keep external classes that are labels; None for what the checkpoint states.

    Raises:
        UsageError: the checkpoint or the embeddings are invalid.
        FailureError: the file does not reproduce the reference, or cannot be written.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    if overlap is not None:
        checkpoint = replace(checkpoint, overlap=overlap)
    vectors = open_same_embeddings(checkpoint.embeddings, embeddings)
    sources = {"checkpoint": sha256_of_file(checkpoint_path)}
    return export_checkpoint(checkpoint, vectors, labels or checkpoint.labels, output, sources, folded)


def export_untrained(
    model: str,
    labels: LabelSet,
    output: Path,
    backbone: str,
    backbone_weights: Path | None = None,
    image_size: int | None = None,
    fit: Fit = "squash",
    embeddings: str | None = None,
    folded: bool = True,
    overlap: Overlap | None = None,
    quiet: bool = False,
) -> Export:
    """Export a model that needs no training, such as training-free; see `export_checkpoint`.

    Args:
        model: its name.
        labels: the labels to tag with.
        output: the `.onnx` file to write.
        backbone, backbone_weights, image_size, fit: as of `open_backbone`.
        embeddings: as of `open_embeddings`; None for minilm, for zero-shot the backbone's own text tower.
        folded: False exports the unfolded head, for comparison.
        overlap: whether to keep external classes that are labels; None for the model's default.
        quiet: do not log what the model is made of.

    Raises:
        UsageError: a name or file is invalid, a label has no vector, or the model has to be trained.
        FailureError: weights cannot be downloaded, the file does not reproduce the reference, or cannot be written.
    """
    own_text = find_model(model).needs_clip
    spec = embeddings or (backbone if own_text else MINILM)
    job = Job(model=model, backbone=backbone, backbone_weights=backbone_weights, embeddings=spec)
    check_towers(job)
    vectors = open_embeddings(embeddings_spec(job), quiet)
    vectors.preload(labels)
    vectors.embed(labels, "target")  # labels without a vector are reported before weights are downloaded
    opened = open_backbone(backbone, backbone_weights, image_size, fit, quiet)
    checkpoint = untrained_checkpoint(model, labels, opened, vectors.source)
    if overlap is not None:
        checkpoint = replace(checkpoint, overlap=overlap)
    log(f"model: {model} on {backbone} with {vectors.source.name} vectors; nothing is trained", quiet)
    return export_checkpoint(checkpoint, vectors, labels, output, {}, folded)


def export_checkpoint(
    checkpoint: Checkpoint,
    embeddings: Embeddings,
    labels: LabelSet,
    output: Path,
    sources: dict[str, str],
    folded: bool = True,
) -> Export:
    """Export a model for a label set as a model file that has passed its checks.

    The file is checked by `onnx.checker`, run in ONNX Runtime on the golden sample against the PyTorch reference, and
    run on the same images one by one and in another order. Only then it appears at `output`.

    Args:
        checkpoint: the model and its backbone.
        embeddings: those of its training.
        labels: the labels to tag with, seen in training or not.
        output: the `.onnx` file to write.
        sources: SHA-256 of the files it was made from, by name, for the manifest.
        folded: False exports the unfolded head, for comparison.

    Raises:
        UsageError: a label has no vector, or no synset where the model needs one.
        FailureError: the file does not reproduce the reference, or cannot be written.
    """
    started = time.perf_counter()
    graph = testing_graph(checkpoint, labels, embeddings)
    size = checkpoint.backbone.preprocessing.size
    images = golden_scenes(GOLDEN_IMAGES, size)
    golden = reference_scorer(checkpoint, graph).scores(images)

    head = (fold if folded else unfolded_head)(checkpoint.model, graph_tensors(graph))
    network = to_onnx(Scorer(without_batch_norm(checkpoint.backbone), head), size)
    manifest = _manifest(checkpoint, sources, labels, graph)
    with tempfile.TemporaryDirectory(prefix="mlzsl-export-") as folder:
        candidate = Path(folder) / "model.onnx"
        write_model_file(candidate, network, manifest, images, golden)
        difference = _check(candidate, images, golden)
    write_model_file(output, network, manifest, images, golden)
    return Export(
        output,
        graph,
        _cost_sheet(checkpoint, graph, head, output, difference),
        time.perf_counter() - started,
        described_overlap(graph.shared, checkpoint.backbone.external, checkpoint.overlap),
    )


def to_onnx(network: nn.Module, size: int) -> bytes:
    """Serialize a network as ONNX: input `images` uint8 [N, S, S, 3], output `scores` float32 [N, L], dynamic N."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own dependencies
        program = torch.onnx.export(
            network.eval().to(memory_format=torch.contiguous_format),
            (example_images(size),),
            input_names=["images"],
            output_names=["scores"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
    assert program is not None  # it is None only with a file name
    model = program.model_proto
    graph = model.graph
    values = [*graph.value_info, *graph.input, *graph.output, *graph.initializer]
    for each in [model, graph, *graph.node, *values]:
        del each.metadata_props[:]  # stack traces with this machine's paths
    for node in graph.node:
        node.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _manifest(checkpoint: Checkpoint, sources: dict[str, str], labels: LabelSet, graph: ClassGraph) -> Manifest:
    return Manifest(
        schema_version=SCHEMA_VERSION,
        model=checkpoint.model.name,
        backbone=checkpoint.backbone.name,
        backbone_license=checkpoint.backbone.license,
        labels=tuple(
            Label(name, synset, bool(seen), None)
            for name, synset, seen in zip(graph.targets, graph.target_synsets, graph.seen, strict=True)
        ),
        preprocessing=checkpoint.backbone.preprocessing.to_json(),
        graph={
            "label_set": labels.name,
            "threshold": graph.threshold,
            "targets": len(graph.targets),
            "externals": len(graph.externals),
            "edges": graph.edges,
            "overlap": checkpoint.overlap,
            "most_externals": checkpoint.most_externals,
            "sources": graph.sources,
            "embeddings": asdict(checkpoint.embeddings) | {"path": None},
        },
        precision="fp32",
        sources=sources | {"backbone": checkpoint.backbone.weights_sha256()},
        network_sha256="",
        golden_sha256="",
    )


def _check(path: Path, images: npt.NDArray[np.uint8], golden: npt.NDArray[np.float32]) -> float:
    """The largest score difference from the reference in ONNX Runtime; scores must not depend on the batch."""
    engine = open_engine(path, device="cpu", backend="onnxruntime")
    try:
        batch = engine.scores(images)
        alone = np.concatenate([engine.scores(images[i : i + 1]) for i in range(len(images))])
        reversed_ = engine.scores(np.ascontiguousarray(images[::-1]))[::-1]
    finally:
        engine.close()
    differences = {
        "from the PyTorch reference": np.abs(batch - golden).max(),
        "between an image alone and in a batch": np.abs(batch - alone).max(),
        "between two orders of a batch": np.abs(batch - reversed_).max(),
    }
    for what, difference in differences.items():
        if not difference <= TOLERANCE:
            raise FailureError(
                f"the exported network's scores differ by {difference:.1e} {what}, more than {TOLERANCE:.0e}; "
                "no file was written."
            )
    return float(differences["from the PyTorch reference"])


def _cost_sheet(
    checkpoint: Checkpoint, graph: ClassGraph, head: nn.Module, output: Path, difference: float
) -> CostSheet:
    image = example_images(checkpoint.backbone.preprocessing.size, count=1)
    unfolded = unfolded_head(checkpoint.model, graph_tensors(graph))
    with torch.inference_mode():
        features, logits = checkpoint.backbone(image)
    return CostSheet(
        labels=len(graph.targets),
        external_classes=len(graph.externals),
        edges=graph.edges,
        computed_nodes=getattr(head, "computed_nodes", (len(graph.targets),)),
        backbone=multiply_adds(checkpoint.backbone, image),
        unfolded=multiply_adds(unfolded, features, logits),
        folded=multiply_adds(head, features, logits),
        file_bytes=output.stat().st_size,
        largest_difference=difference,
    )
