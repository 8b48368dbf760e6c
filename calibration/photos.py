"""The photos of a calibration: a reproducible split into those that calibrate and those that measure accuracy."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.cli.progress import log
from mlzsl.cli.text import none_readable
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images
from mlzsl.engines.engine import available_cpus
from mlzsl.imaging import Preprocessing, TransientReadError, UnreadableImage, load_image
from mlzsl.imaging.finding import find_images
from mlzsl.imaging.labelled_folder import LABELS, load_folder

BATCH_SIZE = 8
LARGEST_SHARE = 1 / 2  # of few photos, that calibrate; the rest measures
FEW = 32  # photos; fewer give unreliable ranges

Targets = npt.NDArray[np.bool_]  # [n, L], labels in the manifest's order


@dataclass(frozen=True)
class Photos:
    """Decoded photos, with their labels where there is a labels.json.

    Attributes:
        images: uint8 [n, S, S, 3].
        targets: bool [n, L]; None without a labels.json.
    """

    images: Images
    targets: Targets | None = None

    def __len__(self) -> int:
        return len(self.images)

    def batches(self) -> Iterator[Images]:
        """The images in order, BATCH_SIZE at a time."""
        return (self.images[first : first + BATCH_SIZE] for first in range(0, len(self), BATCH_SIZE))

    def first(self, count: int) -> "Photos":
        """The first `count` photos, or all."""
        return Photos(self.images[:count], None if self.targets is None else self.targets[:count])

    def sha256(self) -> str:
        """SHA-256 of the images in order."""
        return sha256_of_bytes(*(image.tobytes() for image in self.images))


@dataclass(frozen=True)
class Sample:
    """The photos of one calibration: `calibration` for the ranges, `check` for the accuracy drop."""

    calibration: Photos
    check: Photos


def sample_photos(
    inputs: Sequence[str],
    check: str | None,
    manifest: Manifest,
    count: int,
    check_count: int,
    seed: int,
    threads: int | None = None,
    quiet: bool = False,
) -> Sample:
    """Choose and decode photos.

    Photos in the order of `find_images` (or, in a folder with a labels.json, those that it lists, by name) are shuffled
    with NumPy's PCG64 of `seed`; the first `count` readable ones calibrate, the next `check_count` measure. Of few
    photos at most half calibrate. Duplicate images are used once.

    Args:
        inputs: files, folders or patterns.
        check: a file, folder or pattern to measure on instead of the rest.
        manifest: of the model: preprocessing and labels.
        count: photos that calibrate, at most; may be 0.
        check_count: photos that measure, at most.
        seed: of the shuffle.
        threads: decoding threads; None takes every core.
        quiet: do not log unreadable photos.

    Raises:
        UsageError: there are no photos, or no readable ones to calibrate or to measure on.
    """
    if check is None:
        found = others = _labelled(list(inputs), manifest, quiet)
        count = min(count, max(1, int(len(found.paths) * LARGEST_SHARE)))
    else:
        found, others = _Listed(list(find_images(inputs)), None), _labelled([check], manifest, quiet)
    reader = _Reader(Preprocessing.from_json(manifest.preprocessing), threads or available_cpus())
    shuffled = found.shuffled(seed)
    calibration = reader.read(shuffled, count)
    measuring = reader.read(shuffled if check is None else others.shuffled(seed), check_count)
    if reader.unreadable:
        log(f"{len(reader.unreadable)} photos cannot be read and are skipped; the first: {reader.unreadable[0]}", quiet)
    if count and not calibration:
        none = none_readable(len(found.paths), reader.unreadable[0])
        raise UsageError(f"--photos {' '.join(inputs)}: {none}; name readable photos.")
    if not measuring:
        where = f"--check {check}: " if check is not None else f"--photos {' '.join(inputs)}: "
        raise UsageError(
            f"{where}no photo is left to measure the accuracy drop on, besides the {len(calibration)} that calibrate; "
            "name more photos."
        )
    if count and len(calibration) < FEW:
        log(f"only {len(calibration)} photos calibrate; a few hundred give more reliable ranges", quiet)
    return Sample(found.photos(calibration), others.photos(measuring))


@dataclass(frozen=True)
class _Listed:
    """Paths, and the targets of each where they are known."""

    paths: list[str]
    targets: Targets | None

    def shuffled(self, seed: int) -> Iterator[tuple[int, str]]:
        order = np.random.Generator(np.random.PCG64(seed)).permutation(len(self.paths))
        return ((index, self.paths[index]) for index in order.tolist())

    def photos(self, decoded: list[tuple[int, Images]]) -> Photos:
        return Photos(
            np.array([image for _, image in decoded], dtype=np.uint8),
            None if self.targets is None else self.targets[[index for index, _ in decoded]],
        )


def _labelled(inputs: list[str], manifest: Manifest, quiet: bool) -> _Listed:
    """Find photos, with targets where the only input is a folder with a labels.json that has labels of the model."""
    folder = Path(inputs[0])
    if len(inputs) != 1 or not (folder / LABELS).is_file():
        return _Listed(list(find_images(inputs)), None)
    names = [label.name for label in manifest.labels]
    labelled = load_folder(folder, quiet=quiet).spelled_as(names)
    targets = labelled.targets(names)
    return _Listed([str(path) for path in labelled.paths], targets if targets.any() else None)


class _Reader:
    """Decodes photos in threads, duplicates once; `unreadable` lists the errors of the others."""

    def __init__(self, preprocessing: Preprocessing, threads: int) -> None:
        self.unreadable: list[str] = []
        self._preprocessing, self._threads = preprocessing, threads
        self._digests: set[str] = set()

    def read(self, paths: Iterator[tuple[int, str]], count: int) -> list[tuple[int, Images]]:
        """The first `count` readable photos with their indices; takes no more paths than it needs."""
        decoded: list[tuple[int, Images]] = []
        with ThreadPoolExecutor(self._threads) as pool:
            while chunk := list(islice(paths, count - len(decoded))):
                for (index, path), image in zip(chunk, pool.map(self._decode, chunk), strict=True):
                    if isinstance(image, UnreadableImage):
                        self.unreadable.append(f"{path}: {image}")
                    elif (digest := sha256_of_bytes(image.tobytes())) not in self._digests:
                        self._digests.add(digest)
                        decoded.append((index, image))
        return decoded

    def _decode(self, entry: tuple[int, str]) -> Images | UnreadableImage:
        try:
            return load_image(Path(entry[1]), self._preprocessing)
        except UnreadableImage as error:
            return error
        except TransientReadError as error:
            raise FailureError(f"{entry[1]}: could not be read: {error}. Try again.") from error
