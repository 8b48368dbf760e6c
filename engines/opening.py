"""Open an engine from its file: what was asked for runs, or an error says why it cannot."""

import os
from collections.abc import Callable
from pathlib import Path

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import read_manifest
from mlzsl.engines.artifact.plan_manifest import SUFFIX
from mlzsl.engines.engine import Engine

DEVICES = ("cpu", "cuda")
DEFAULT_BACKEND = {"cpu": "openvino", "cuda": "onnxruntime"}
REDUCED_PRECISIONS = ("bf16",)  # what --precision may ask of an fp32 file


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
    from mlzsl.engines.tensorrt.engine import open_plan

    if backend is not None:
        raise UsageError(f"--backend {backend}: {path} runs on the library that built it; leave the flag out.")
    return open_plan(path, device, precision)


def _openvino(path: Path, manifest: Manifest, device: str, precision: str, threads: int | None) -> Engine:
    from mlzsl.engines.openvino import open_openvino

    return open_openvino(path, manifest, device, precision, threads)


def _onnxruntime(path: Path, manifest: Manifest, device: str, precision: str, threads: int | None) -> Engine:
    from mlzsl.engines.onnxruntime import open_onnxruntime

    return open_onnxruntime(path, manifest, device, precision, threads)


_MAKERS: dict[str, Maker] = {"openvino": _openvino, "onnxruntime": _onnxruntime}
BACKENDS = tuple(_MAKERS)


def _precision_to_run(path: Path, manifest: Manifest, asked: str | None) -> str:
    if asked is None or asked == manifest.precision:
        return manifest.precision
    if manifest.precision == "fp32" and asked in REDUCED_PRECISIONS:
        return asked
    raise UsageError(
        f"--precision {asked}: {path} is a file of precision {manifest.precision}, which runs as it is"
        + (f" or in {', '.join(REDUCED_PRECISIONS)}" if manifest.precision == "fp32" else "")
        + "; leave the flag out."
    )
