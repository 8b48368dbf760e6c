"""The PyTorch baseline of benchmarks: a checkpoint's backbone and unfolded head, eager or by `torch.compile`.

A DataLoader decodes photos with Pillow at full size.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.multiprocessing.reductions import shared_cache
from torch.utils.data import DataLoader, Dataset

from mlzsl.cli.errors import UsageError, reason_of
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.export.network import Scorer
from mlzsl.export.reference import manifest_graph
from mlzsl.export.unfolded_head import unfolded_head
from mlzsl.imaging.preprocessing import Preprocessing
from mlzsl.train.backbones.backbone import features_and_logits
from mlzsl.train.checkpoint import load_checkpoint
from mlzsl.train.models.model import graph_tensors

Images = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float32]


class HalfScorer(nn.Module):
    """A scorer in bfloat16 or float16; images are normalized in float32."""

    def __init__(self, scorer: Scorer, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.dtype = dtype
        self.normalize, self.pooling = scorer.backbone.normalize, scorer.backbone.pooling
        self.network = copy.deepcopy(scorer.backbone.network).to(dtype)
        self.head = copy.deepcopy(scorer.head).to(dtype)

    def forward(self, images: Tensor) -> Tensor:
        normalized = self.normalize(images).to(self.dtype)
        scores: Tensor = self.head(*features_and_logits(self.network, normalized, self.pooling))
        return scores.float()


class Baseline:
    """A scorer and its DataLoader.

    Attributes:
        network: uint8 images (N, S, S, 3) -> float32 scores (N, L), on `device`.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        preprocessing: Preprocessing,
        device: str,
        batch_size: int,
        workers: int,
    ):
        self.network = network
        self._preprocessing, self._device = preprocessing, device
        self._batch_size, self._workers = batch_size, workers

    def tag(self, paths: Sequence[str]) -> None:
        """Decode and score photos; an unreadable one raises."""
        for images in DataLoader(PillowPhotos(paths, self._preprocessing), self._batch_size, num_workers=self._workers):
            self._scores(images)
            del images
        # PyTorch keeps weak references to the workers' tensors and prints errors if they are alive at exit.
        shared_cache.free_dead_references()

    def scores(self, images: Images) -> Scores:
        """uint8 [n, S, S, 3] -> float32 [n, L]."""
        scores: Scores = self._scores(torch.from_numpy(images)).numpy()
        return scores

    @torch.inference_mode()
    def _scores(self, images: Tensor) -> Tensor:
        return self.network(images.to(self._device)).cpu()


class PillowPhotos(Dataset[Tensor]):
    """Photos decoded by Pillow at full size, then resized to a square; uint8 (S, S, 3) each."""

    def __init__(self, paths: Sequence[str], preprocessing: Preprocessing) -> None:
        self.paths, self.preprocessing = paths, preprocessing

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        size, filter_name = self.preprocessing.size, self.preprocessing.interpolation.upper()
        with Image.open(self.paths[index]) as photo:
            box = self.preprocessing.source_box(*photo.size)
            resized = photo.convert("RGB").resize((size, size), Image.Resampling[filter_name], box=box)
        return torch.from_numpy(np.array(resized))


def open_eager(
    checkpoint: Path, manifest: Manifest, embeddings: str | None, device: str, batch_size: int, threads: int
) -> Baseline:
    """Open a checkpoint for the labels of a manifest, eager and in fp32.

    Args:
        checkpoint: the checkpoint that the model was exported from.
        manifest: of the model.
        embeddings: as for `open_same_embeddings`.
        device: "cpu" or "cuda".
        batch_size: photos per batch.
        threads: PyTorch's threads, and the DataLoader's workers.

    Raises:
        UsageError: the checkpoint or its embeddings are invalid, or the device is not available.
    """
    network = open_scorer(checkpoint, manifest, embeddings, device, threads)
    return Baseline(network, Preprocessing.from_json(manifest.preprocessing), device, batch_size, threads)


def open_compiled(
    checkpoint: Path, manifest: Manifest, embeddings: str | None, device: str, batch_size: int, threads: int
) -> Baseline:
    """Open a checkpoint as `open_eager` does, compiled by `torch.compile` in bf16.

    Raises:
        UsageError: as `open_eager`, or it does not compile.
    """
    scorer = open_scorer(checkpoint, manifest, embeddings, device, threads)
    preprocessing = Preprocessing.from_json(manifest.preprocessing)
    compiled = Baseline(torch.compile(HalfScorer(scorer).eval()), preprocessing, device, batch_size, threads)
    try:
        compiled.scores(np.zeros((batch_size, manifest.image_size, manifest.image_size, 3), np.uint8))
    except RuntimeError as error:  # what torch.compile raises derives from it
        raise UsageError(f"torch.compile failed: {reason_of(error)}") from error
    return compiled


def open_scorer(checkpoint: Path, manifest: Manifest, embeddings: str | None, device: str, threads: int) -> Scorer:
    """Open a checkpoint's network for the labels of a manifest, in fp32; arguments and errors as `open_eager`."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: PyTorch finds no GPU; use --device cpu.")
    torch.set_num_threads(threads)
    trained = load_checkpoint(checkpoint)
    graph = graph_tensors(manifest_graph(trained, manifest, embeddings))
    return Scorer(trained.backbone, unfolded_head(trained.model, graph)).eval().to(device)
