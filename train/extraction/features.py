"""Photos -> features and logits, once: the backbone is frozen, so every epoch can read them from the cache."""

import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.cli.progress import progress
from mlzsl.imaging.decoding import UnreadableImage, load_image
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.imaging.preprocessing import Preprocessing
from mlzsl.train.backbones.backbone import AVERAGE, Backbone
from mlzsl.train.extraction.cache import keep, recall

RECIPE = "features 1"  # to be raised when decoding or the backbone's arithmetic changes
BATCHES_AHEAD = 2  # how many batches of decoded photos may wait for the network
PHOTOS_NAMED = 3

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """What the backbone says of n photos, in their order.

    Attributes:
        features: x, float32 [n, F]; [n, F + C] with what the places say (`backbone.PLACES`).
        logits: of the backbone's C classes, float32 [n, C].
    """

    features: Floats
    logits: Floats

    def read_as(self, backbone: Backbone) -> "Features":
        """What a backbone with this or a narrower reading says of the same photos."""
        return Features(self.features[:, : backbone.width], self.logits)


def extract(backbone: Backbone, photos: PhotoSet, cache: Path, batch_size: int = 32, quiet: bool = False) -> Features:
    """Run every photo through the backbone, or read what an earlier run has kept.

    Photos are decoded in threads while the network runs, where its tensors are. The result does not depend on
    `batch_size` (to 1e-5).

    Args:
        backbone: whose features and logits.
        photos: which photos, in which order.
        cache: the folder for what can be made again; the file's name and key hold backbone, weights,
            preprocessing and `PhotoSet.key()`.
        batch_size: photos at a time.
        quiet: show no progress.

    Raises:
        UsageError: photos that cannot be read; all of them are looked at before it is raised.
        FailureError: the cache cannot be written.
    """
    key = _key(backbone, photos)
    path = cache / f"features-{backbone.name}-{key[:16]}.safetensors"
    if (kept := recall(path, key)) is not None:
        return Features(**kept[0])
    features = _extracted(backbone, photos, batch_size, quiet)
    keep(path, key, asdict(features))
    return features


def _extracted(backbone: Backbone, photos: PhotoSet, batch_size: int, quiet: bool) -> Features:
    count = len(photos)
    features = np.empty((count, backbone.width), np.float32)
    logits = np.empty((count, len(backbone.external)), np.float32)
    device = backbone.normalize.scale.device
    unreadable: list[tuple[Path, str]] = []
    images = _decoded(photos.paths, backbone.preprocessing, ahead=BATCHES_AHEAD * batch_size)
    with progress("extracting features", count, "photos", quiet) as bar, torch.inference_mode():
        for start in range(0, count, batch_size):
            paths = photos.paths[start : start + batch_size]
            batch = list(islice(images, len(paths)))
            readable = [image for image in batch if isinstance(image, np.ndarray)]
            unreadable += [
                (path, str(image))
                for path, image in zip(paths, batch, strict=True)
                if isinstance(image, UnreadableImage)
            ]
            if not unreadable:  # else the rest is only looked at, to name all that is wrong at once
                x, class_logits = backbone(torch.from_numpy(np.stack(readable)).to(device))
                features[start : start + len(paths)] = x.cpu().numpy()
                logits[start : start + len(paths)] = class_logits.cpu().numpy()
            bar.advance(len(paths))
    if unreadable:
        raise _unreadable_photos(unreadable, count)
    return Features(features, logits)


def _decoded(paths: Sequence[Path], preprocessing: Preprocessing, ahead: int) -> Iterator[Image | UnreadableImage]:
    """Decode photos in threads, `ahead` of whoever takes them, and yield them (or what went wrong) in order."""

    def decode(path: Path) -> Image | UnreadableImage:
        try:
            return load_image(path, preprocessing)
        except UnreadableImage as error:
            return error

    waiting: deque[Future[Image | UnreadableImage]] = deque()
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for path in paths:
            waiting.append(pool.submit(decode, path))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _key(backbone: Backbone, photos: PhotoSet) -> str:
    return sha256_of_bytes(
        RECIPE.encode(),
        backbone.name.encode(),
        backbone.weights_sha256().encode(),
        json.dumps(backbone.preprocessing.to_json(), sort_keys=True).encode(),
        photos.key().encode(),
        *([] if backbone.reading == AVERAGE else [backbone.reading.encode()]),
    )


def _unreadable_photos(unreadable: list[tuple[Path, str]], count: int) -> UsageError:
    named = "; ".join(f"{path} ({reason})" for path, reason in unreadable[:PHOTOS_NAMED])
    more = f"; and {len(unreadable) - PHOTOS_NAMED} more" if len(unreadable) > PHOTOS_NAMED else ""
    return UsageError(
        f"{len(unreadable)} of {count} training photos cannot be read: {named}{more}. "
        "Repair them, or take them out of the folder and its labels.json, and run the command again."
    )
