"""The interface of every engine, and the checks that all engines share."""

import contextlib
import os
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mlzsl.cli.errors import FailureError, UsageError, reason_of
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images, Scores


@dataclass(frozen=True)
class ExecutionInfo:
    """What an engine runs on, as reported by its library.

    Attributes:
        backend: "openvino", "onnxruntime", "tensorrt" or "tensorrt_rtx".
        version: of that library.
        provider: the library's name for its device driver, such as "CPU" or "CUDAExecutionProvider".
        device: name of the hardware where the library reports it, else "cpu" or "cuda".
        precision: of the arithmetic, such as "fp32".
    """

    backend: str
    version: str
    provider: str
    device: str
    precision: str

    def __str__(self) -> str:
        return f"{self.backend} {self.version}, {self.provider} ({self.device}), {self.precision}"


class Engine(Protocol):
    """An opened model: uint8 images in, scores out. `contextlib.closing` closes it.

    Attributes:
        manifest: of the model file: labels in the order of the scores, preprocessing, precision.
        execution: backend, provider, device and precision.
        in_flight: number of batches that `run` keeps running at once; may be lowered between runs.
    """

    manifest: Manifest
    execution: ExecutionInfo
    in_flight: int

    def run(self, batches: Iterable[Images]) -> Generator[Scores, None, None]:
        """Score batches, `in_flight` at a time, results in the order of the batches.

        A batch is taken from `batches` only when it can start, so that its source is never far ahead. Arrays must not
        change until their scores are yielded. Closing the iterator early waits for running batches.

        Args:
            batches: uint8 [n, S, S, 3] RGB, n may differ from batch to batch.

        Yields:
            float32 [n, L] for each batch.

        Raises:
            FailureError: a batch has a wrong shape or type, the library failed, or a score is NaN or infinite.
        """

    def scores(self, images: Images) -> Scores:
        """Score one batch: uint8 [n, S, S, 3] -> float32 [n, L]. Raises as `run`."""
        return next(iter(self.run([images])))

    def close(self) -> None:
        """Release the network and its threads; the engine cannot be used afterwards."""


@contextlib.contextmanager
def failing_as(what: str, errors: tuple[type[Exception], ...], remedy: str) -> Iterator[None]:
    """Raise a library's exceptions within the block as a FailureError: `what` failed, why, and the remedy."""
    try:
        yield
    except errors as error:
        raise FailureError(f"{what} failed: {reason_of(error)}; {remedy}.") from error


def available_cpus() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_images(images: Images, manifest: Manifest) -> Images:
    """A batch as engines take it: uint8 [n, S, S, 3], contiguous.

    Raises:
        FailureError: it has another type or shape.
    """
    size = manifest.image_size
    if (
        not isinstance(images, np.ndarray)
        or images.dtype != np.uint8
        or images.shape != (len(images), size, size, 3)
        or len(images) == 0
    ):
        found = f"{images.dtype} {list(images.shape)}" if isinstance(images, np.ndarray) else type(images).__name__
        raise FailureError(f"a batch of images is {found}, expected uint8 [n, {size}, {size}, 3] with n ≥ 1.")
    return np.ascontiguousarray(images)


def check_scores(scores: Scores, execution: ExecutionInfo) -> Scores:
    """The scores of a batch, all of them finite.

    Raises:
        FailureError: one is NaN or infinite.
    """
    if not np.isfinite(scores).all():
        raise FailureError(
            f"a score is NaN or infinite on {execution}; run the model in another precision, or train and export it "
            "again."
        )
    return scores


Port = tuple[str, str, list[int | None]]  # name, type, shape with None where it is dynamic


def signature(inputs: list[Port], outputs: list[Port]) -> str:
    """A network's inputs and outputs as text: `images uint8 [N, 224, 224, 3] → scores float32 [N, 80]`."""

    def joined(ports: list[Port]) -> str:
        return " and ".join(
            f"{name} {kind} [{', '.join('N' if side is None else str(side) for side in shape)}]"
            for name, kind, shape in ports
        )

    return f"{joined(inputs)} → {joined(outputs)}"


def check_signature(path: Path, manifest: Manifest, found: str) -> None:
    """Compare a network's `signature` with that of its manifest.

    Raises:
        UsageError: they differ.
    """
    size = manifest.image_size
    expected = signature(
        [("images", "uint8", [None, size, size, 3])], [("scores", "float32", [None, len(manifest.labels)])]
    )
    if found != expected:
        raise UsageError(
            f"{path}: the network maps {found}, expected {expected} by its manifest; re-export it with mlzsl-export."
        )
