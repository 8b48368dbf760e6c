"""A checkpoint's system in plain PyTorch, as one serves it without an engine: what the benchmark compares engines with.

The backbone and the head as the paper writes it, the class graph frozen; photos come from a DataLoader that decodes
with Pillow at full size.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mlzsl.cli.errors import UsageError, reason_of
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.export.reference import open_same_embeddings, testing_graph
from mlzsl.export.unfolded_head import unfolded_head
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.train.backbones.backbone import Backbone, features_and_logits
from mlzsl.train.checkpoint import load_checkpoint
from mlzsl.train.models.model import graph_tensors

Images = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float32]


class Scorer(nn.Module):
    """uint8 images (N, S, S, 3) -> scores (N, L), as one writes it in PyTorch."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(*self.backbone(images))
        return scores


class HalfScorer(nn.Module):
    """The same with weights and activations of two bytes each; pictures are normalized in float32."""

    def __init__(self, scorer: Scorer, kind: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.kind = kind  # bfloat16 or float16
        self.normalize, self.pooling = scorer.backbone.normalize, scorer.backbone.pooling
        self.network = copy.deepcopy(scorer.backbone.network).to(kind)
        self.head = copy.deepcopy(scorer.head).to(kind)

    def forward(self, images: Tensor) -> Tensor:
        pictures = self.normalize(images).to(self.kind)
        scores: Tensor = self.head(*features_and_logits(self.network, pictures, self.pooling))
        return scores.float()


class Baseline:
    """A scorer with its DataLoader.

    Attributes:
        network: uint8 images (N, S, S, 3) -> float32 scores (N, L), on `device`.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], size: int, device: str, batch_size: int, workers: int):
        self.network = network
        self._size, self._device = size, device
        self._batch_size, self._workers = batch_size, workers

    def tag(self, paths: Sequence[str]) -> None:
        """From files to scores; an unreadable file ends it."""
        loader = DataLoader(PillowPhotos(paths, self._size), self._batch_size, num_workers=self._workers)
        for images in loader:
            self._scores(images)

    def scores(self, images: Images) -> Scores:
        """uint8 [n, S, S, 3] -> float32 [n, L]."""
        scores: Scores = self._scores(torch.from_numpy(images)).numpy()
        return scores

    @torch.inference_mode()
    def _scores(self, images: Tensor) -> Tensor:
        return self.network(images.to(self._device)).cpu()


class PillowPhotos(Dataset[Tensor]):
    """Photos as most people's code decodes them: every pixel, then squashed; uint8 (S, S, 3) each."""

    def __init__(self, paths: Sequence[str], size: int) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> Tensor:
        with Image.open(self.paths[place]) as picture:
            squashed = picture.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(squashed))


def open_eager(
    checkpoint: Path, manifest: Manifest, embeddings: str | None, device: str, batch_size: int, threads: int
) -> Baseline:
    """Open a checkpoint's system for the labels of a manifest, eager and in fp32.

    Args:
        checkpoint: the checkpoint that the model was exported from.
        manifest: of the model.
        embeddings: as for `open_same_embeddings`.
        device: "cpu" or "cuda".
        batch_size: photos a batch.
        threads: of PyTorch, and as many workers decode.

    Raises:
        UsageError: the checkpoint or its embeddings are unfit, or PyTorch does not reach the device.
    """
    network = open_scorer(checkpoint, manifest, embeddings, device, threads)
    return Baseline(network, manifest.image_size, device, batch_size, threads)


def open_compiled(
    checkpoint: Path, manifest: Manifest, embeddings: str | None, device: str, batch_size: int, threads: int
) -> Baseline:
    """The same compiled by `torch.compile` in bf16, ready to run.

    Raises:
        UsageError: as `open_eager`, or it does not compile here.
    """
    scorer = open_scorer(checkpoint, manifest, embeddings, device, threads)
    compiled = Baseline(torch.compile(HalfScorer(scorer).eval()), manifest.image_size, device, batch_size, threads)
    try:
        compiled.scores(np.zeros((batch_size, manifest.image_size, manifest.image_size, 3), np.uint8))
    except RuntimeError as error:  # what torch.compile raises derives from it
        raise UsageError(f"torch.compile failed: {reason_of(error)}") from error
    return compiled


def open_scorer(checkpoint: Path, manifest: Manifest, embeddings: str | None, device: str, threads: int) -> Scorer:
    """A checkpoint's network for the labels of a manifest, in fp32; arguments and errors as `open_eager`."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: the installed PyTorch reaches no GPU.")
    torch.set_num_threads(threads)
    trained = load_checkpoint(checkpoint)
    labels = LabelSet(
        "manifest", tuple(label.name for label in manifest.labels), tuple(label.synset for label in manifest.labels)
    )
    graph = testing_graph(trained, labels, open_same_embeddings(trained.embeddings, embeddings))
    return Scorer(trained.backbone, unfolded_head(trained.model, graph_tensors(graph))).eval().to(device)
