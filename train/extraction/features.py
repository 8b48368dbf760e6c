"""Photos -> features and logits, once per backbone: it is frozen, so every epoch reads them from the cache."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.cli.progress import progress
from mlzsl.cli.text import first_of
from mlzsl.imaging import TransientReadError, UnreadableImage, load_image
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.imaging.preprocessing import Preprocessing
from mlzsl.imaging.versions import decoder_versions
from mlzsl.train.backbones.backbone import DENSE, GAP, GLOBAL, Backbone, Pooling
from mlzsl.train.datasets.source import Source
from mlzsl.train.extraction.cache import load_cached, save_cached

RECIPE = "features 3"  # raise it when decoding or the backbone's arithmetic changes
LIBRARIES = ("torch", "torchvision", "timm")  # that the backbone runs in

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

MOST_DENSE_CLASSES = 2_000  # log q of a backbone with more classes is extracted only for models that read it


@dataclass(frozen=True)
class Features:
    """The backbone's outputs for n photos, in their order.

    Attributes:
        features: x, float32 [n, F]; x and log q or log p, float32 [n, F + C], of DENSE or GLOBAL pooling.
        logits: of the backbone's C classes, float32 [n, C].
    """

    features: Floats
    logits: Floats

    def for_backbone(self, backbone: Backbone) -> "Features":
        """The outputs of the same backbone with its pooling, of those that `extract` gives."""
        if backbone.pooling == GLOBAL:
            log_p = torch.from_numpy(self.logits).log_softmax(dim=1).numpy()
            return Features(np.concatenate([self.features[:, : backbone.feature_dim], log_p], axis=1), self.logits)
        return Features(self.features[:, : backbone.num_features], self.logits)

    def take(self, rows: Sequence[int]) -> "Features":
        """The outputs for the photos at `rows`, in that order."""
        return Features(self.features[rows], self.logits[rows])


ReadError = UnreadableImage | TransientReadError


class DecodedPhotos(Dataset[Image | ReadError]):
    """The images of photos, uint8 [S, S, 3], or the reasons why they cannot be read."""

    def __init__(self, photos: PhotoSet, preprocessing: Preprocessing) -> None:
        self.paths, self.preprocessing = photos.paths, preprocessing

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image | ReadError:
        try:
            return load_image(self.paths[index], self.preprocessing)
        except (UnreadableImage, TransientReadError) as error:
            return error


def extract(backbone: Backbone, photos: PhotoSet, cache: Path, batch_size: int = 32, quiet: bool = False) -> Features:
    """Run every photo through the backbone, or load the result of an earlier run.

    Features have DENSE pooling where the backbone has it, whatever its own: x is a part of them, so that one extraction
    serves all models (`Features.for_backbone`). Beside the network log q costs little (2 % of a ResNet-50's
    multiplications). A DataLoader decodes photos while the network runs, on the device of its tensors. The result does
    not depend on `batch_size` (to 1e-5).

    Args:
        backbone: the frozen network.
        photos: in the order of the result.
        cache: the cache folder; file name and key depend on backbone, weights, preprocessing, the versions of
            `LIBRARIES` and of the decoders, and `PhotoSet.key()`.
        batch_size: photos per batch.
        quiet: show no progress.

    Raises:
        UsageError: photos that cannot be read; all photos are tried before it is raised.
        FailureError: the machine failed while photos were read, or the cache cannot be written.
    """
    poolings: list[Pooling] = [DENSE] if backbone.has_dense_logits else []
    if not poolings or (backbone.pooling != DENSE and len(backbone.external) > MOST_DENSE_CLASSES):
        poolings.append(GAP)
    content = photos.key()
    for pooling in poolings:  # x may be a part of features that were extracted for another model
        backbone = backbone.with_pooling(pooling)
        key = _key(backbone, content)
        path = cache / f"features-{backbone.name.replace(':', '-')}-{key[:16]}.safetensors"
        if (cached := load_cached(path, key)) is not None:
            return Features(**cached[0])
    features = _extract(backbone, photos, batch_size, quiet)
    save_cached(path, key, asdict(features))
    return features


def extract_parts(
    backbone: Backbone, source: Source, parts: Sequence[PhotoSet], cache: Path, quiet: bool = False
) -> list[Features]:
    """Extract the features of parts of a dataset; arguments, pooling and errors as of `extract`.

    The dataset is extracted and cached as a whole, so that the same photos split by another seed, share or number of
    folds are not extracted again.

    Args:
        parts: of photos of `source`; its own split, or parts of its training photos if it has none.
    """
    if source.held_out is not None:
        return [extract(backbone, part, cache, quiet=quiet) for part in parts]
    row_of = {path: row for row, path in enumerate(source.training.paths)}
    features = extract(backbone, source.training, cache, quiet=quiet)
    return [features.take([row_of[path] for path in part.paths]) for part in parts]


def _extract(backbone: Backbone, photos: PhotoSet, batch_size: int, quiet: bool) -> Features:
    count = len(photos)
    features = np.empty((count, backbone.num_features), np.float32)
    logits = np.empty((count, len(backbone.external)), np.float32)
    device = backbone.normalize.scale.device
    unreadable: list[str] = []
    workers = min(os.cpu_count() or 1, -(-count // batch_size))
    # Batches stay lists of NumPy arrays, which workers send through a pipe: tensors would go through shared memory,
    # which containers often limit to 64 MB, and print errors when the interpreter exits.
    loader: DataLoader[Image | ReadError] = DataLoader(
        DecodedPhotos(photos, backbone.preprocessing), batch_size, num_workers=workers, collate_fn=list
    )
    start = 0
    with progress("extracting features", count, "photos", quiet) as bar, torch.inference_mode(), _worker_failures():
        for batch in loader:
            stop = start + len(batch)
            for path, image in zip(photos.paths[start:stop], batch, strict=True):
                if isinstance(image, TransientReadError):
                    raise FailureError(f"{path}: could not be read: {image}. Try again.")
                if isinstance(image, UnreadableImage):
                    unreadable.append(f"{path} ({image})")
            if not unreadable:  # otherwise the remaining photos are only decoded, to report every unreadable one
                x, class_logits = backbone(torch.from_numpy(np.stack(batch)).to(device))
                features[start:stop], logits[start:stop] = x.cpu().numpy(), class_logits.cpu().numpy()
            start = stop
            bar.advance(len(batch))
    if unreadable:
        raise UsageError(
            f"{len(unreadable)} of {count} training photos cannot be read: {first_of(unreadable)}. "
            "Repair them, or remove them from the folder and its labels.json, and run the command again."
        )
    return Features(features, logits)


def _key(backbone: Backbone, photos: str) -> str:
    return sha256_of_bytes(
        f"{RECIPE}, {', '.join(f'{name} {version(name)}' for name in LIBRARIES)}, {decoder_versions()}".encode(),
        backbone.name.encode(),
        backbone.weights_sha256().encode(),
        json.dumps(backbone.preprocessing.to_json(), sort_keys=True).encode(),
        backbone.pooling.encode(),
        photos.encode(),
    )


@contextlib.contextmanager
def _worker_failures() -> Iterator[None]:
    """Report a process of the DataLoader that was killed, as for want of memory."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise FailureError("a process that decodes photos was killed; check free memory, and try again.") from error
