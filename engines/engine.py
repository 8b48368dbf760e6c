"""What every engine answers, and how one is opened: what was asked for runs, or an error says why it cannot."""

import os
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mlzsl.engines.manifest import Manifest
from mlzsl.engines.modelfile import Images, Scores, read_manifest
from mlzsl.engines.plan_manifest import SUFFIX
from mlzsl.shell.errors import FailureError, UsageError

DEVICES = ("cpu", "cuda")
DEFAULT_BACKEND = {"cpu": "openvino", "cuda": "onnxruntime"}
LESS_THAN_FP32 = ("bf16",)  # what --precision may ask of an fp32 file


@dataclass(frozen=True)
class Running:
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
    def running(self) -> Running:
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


def open_engine(
    path: str | os.PathLike[str],
    device: str = "cpu",
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
) -> Engine:
    """Open a model file on a device.

    Args:
        path: a `.onnx` file with a manifest, or a `.plan` that `mlzsl-build` made of one.
        device: "cpu" or "cuda"; a plan runs on "cuda" only.
        backend: "openvino" or "onnxruntime"; None takes OpenVINO on a CPU, ONNX Runtime on CUDA. A plan takes none: it
            runs on the library that built it.
        precision: None runs the precision that the manifest states; "bf16" asks for less on hardware that has it.
        threads: CPU threads at most; None takes every core that the process may use.

    Raises:
        UsageError: the file is unfit, or what was asked for is not there: nothing falls back silently.
    """
    path = Path(path)
    if device not in DEVICES:
        raise UsageError(f"--device {device}: unknown; the devices are {' and '.join(DEVICES)}.")
    if path.suffix.lower() == SUFFIX:
        return _plan(path, device, backend, precision)
    backend = backend or DEFAULT_BACKEND[device]
    if backend not in _MAKERS:
        raise UsageError(f"--backend {backend}: unknown; the backends are {' and '.join(_MAKERS)}.")
    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads}: at least one thread is needed.")
    if path.suffix.lower() != ".onnx" and path.is_file():
        raise UsageError(f"{path}: is no kind of engine known here; name an .onnx model file, or a .plan.")
    manifest = read_manifest(path)
    return _MAKERS[backend](path, manifest, device, _precision_to_run(path, manifest, precision), threads)


Maker = Callable[[Path, Manifest, str, str, int | None], Engine]


def _plan(path: Path, device: str, backend: str | None, precision: str | None) -> Engine:
    from mlzsl.engines.tensorrt_engine import open_plan

    if backend is not None:
        raise UsageError(f"--backend {backend}: {path} runs on the library that built it; leave the flag out.")
    return open_plan(path, device, precision)


def _openvino(path: Path, manifest: Manifest, device: str, precision: str, threads: int | None) -> Engine:
    from mlzsl.engines.openvino_engine import open_openvino

    return open_openvino(path, manifest, device, precision, threads)


def _onnxruntime(path: Path, manifest: Manifest, device: str, precision: str, threads: int | None) -> Engine:
    from mlzsl.engines.onnxruntime_engine import open_onnxruntime

    return open_onnxruntime(path, manifest, device, precision, threads)


_MAKERS: dict[str, Maker] = {"openvino": _openvino, "onnxruntime": _onnxruntime}
BACKENDS = tuple(_MAKERS)


def _precision_to_run(path: Path, manifest: Manifest, asked: str | None) -> str:
    if asked is None or asked == manifest.precision:
        return manifest.precision
    if manifest.precision == "fp32" and asked in LESS_THAN_FP32:
        return asked
    raise UsageError(
        f"--precision {asked}: {path} is a file of precision {manifest.precision}, which runs as it is"
        + (f" or in {', '.join(LESS_THAN_FP32)}" if manifest.precision == "fp32" else "")
        + "; leave the flag out."
    )


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


def one_line(error: BaseException) -> str:
    """A library's message as part of a sentence: one line, not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:299] + "…"
