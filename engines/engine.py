"""The interface of every engine, and what the engines share."""

import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images, Scores


@dataclass(frozen=True)
class ExecutionInfo:
    """What an engine really runs on, read back from the library after it was opened.

    Attributes:
        backend: "openvino", "onnxruntime", "tensorrt" or "tensorrt_rtx".
        version: of that library.
        provider: what the library calls the device's driver, such as "CPU" or "CUDAExecutionProvider".
        device: the hardware's name where the library tells it, else "cpu" or "cuda".
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
    """One opened model: uint8 pictures in, scores out. `contextlib.closing` closes it.

    Attributes:
        in_flight: how many batches `run` keeps running at once; may be lowered between runs.
    """

    in_flight: int

    @property
    def manifest(self) -> Manifest:
        """The model file's manifest: labels in the order of the scores, preprocessing, precision."""

    @property
    def execution(self) -> ExecutionInfo:
        """Backend, provider and precision really used."""

    def run(self, batches: Iterable[Images]) -> Generator[Scores, None, None]:
        """Score batches, `in_flight` at a time, results in the order of the batches.

        A batch is pulled from `batches` only when there is room for it, so that its source is never far ahead.
        The arrays must stay unchanged until their scores have come. Stopping early is safe: what is still running
        is waited for when the iterator is closed.

        Args:
            batches: uint8 [n, S, S, 3] RGB, n may differ from batch to batch.

        Yields:
            float32 [n, L] for each batch.

        Raises:
            FailureError: a batch has the wrong shape or type, or the library failed.
        """

    def scores(self, images: Images) -> Scores:
        """Score one batch: uint8 [n, S, S, 3] -> float32 [n, L]. Raises as `run`."""

    def close(self) -> None:
        """Let go of the network and its threads; the engine must not be used afterwards."""


def available_cpus() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_images(images: Images, manifest: Manifest) -> Images:
    """Return a batch as an engine can take it: uint8 [n, S, S, 3], contiguous.

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
        raise FailureError(f"an engine was given {found}, expected pictures as uint8 [n, {size}, {size}, 3], n ≥ 1.")
    return np.ascontiguousarray(images)


def check_signature(path: Path, manifest: Manifest, found: str) -> None:
    """Compare a network's inputs and outputs, as `signature` words them, with what its manifest promises.

    Raises:
        UsageError: they differ.
    """
    size = manifest.image_size
    expected = signature(
        [("images", "uint8", [None, size, size, 3])], [("scores", "float32", [None, len(manifest.labels)])]
    )
    if found != expected:
        raise UsageError(
            f"{path}: the network maps {found}, but its manifest promises {expected}; re-export it with mlzsl-export."
        )


Port = tuple[str, str, list[int | None]]  # name, type, shape with None where it is dynamic


def signature(inputs: list[Port], outputs: list[Port]) -> str:
    """Word a network's ports: `images uint8 [N, 224, 224, 3] → scores float32 [N, 80]`."""

    def word(ports: list[Port]) -> str:
        return " and ".join(
            f"{name} {kind} [{', '.join('N' if side is None else str(side) for side in shape)}]"
            for name, kind, shape in ports
        )

    return f"{word(inputs)} → {word(outputs)}"
