"""Open an engine from a model file or a TensorRT plan; a missing device, backend or precision is an error."""

import os
from pathlib import Path

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import read_manifest
from mlzsl.engines.artifact.plan_manifest import SUFFIX
from mlzsl.engines.engine import Engine

DEVICES = ("cpu", "cuda")
DEFAULT_BACKEND = {"cpu": "openvino", "cuda": "onnxruntime"}
BACKENDS = ("openvino", "onnxruntime")
REDUCED_PRECISIONS = ("bf16",)  # that --precision may ask of an fp32 file


def open_engine(
    path: str | os.PathLike[str],
    device: str = "cpu",
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
) -> Engine:
    """Open a model file on a device.

    Args:
        path: a `.onnx` file with a manifest, or a `.plan` that `mlzsl-build` made.
        device: "cpu" or "cuda"; a plan runs on "cuda" only.
        backend: "openvino" or "onnxruntime"; None takes OpenVINO on a CPU and ONNX Runtime on CUDA. A plan takes none:
            it runs on the library that built it.
        precision: None takes that of the manifest; "bf16" runs an fp32 file in bf16 on hardware that has it.
        threads: CPU threads at most; None takes every core.

    Raises:
        UsageError: the file is not valid, or the device, backend or precision is not available.
    """
    path = Path(path)
    if device not in DEVICES:
        raise UsageError(f"--device {device}: unknown, expected {' or '.join(DEVICES)}.")
    if path.suffix.lower() == SUFFIX:
        from mlzsl.engines.tensorrt.engine import open_plan

        if backend is not None:
            raise UsageError(f"--backend {backend}: {path} runs on the library that built it; leave the flag out.")
        return open_plan(path, device, precision)
    backend = backend or DEFAULT_BACKEND[device]
    if backend not in BACKENDS:
        raise UsageError(f"--backend {backend}: unknown, expected {' or '.join(BACKENDS)}.")
    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads}: expected at least 1.")
    if path.suffix.lower() != ".onnx" and path.is_file():
        raise UsageError(f"{path}: is not an engine file; expected a name that ends in .onnx or .plan.")
    manifest = read_manifest(path)
    precision = _precision_to_run(path, manifest, precision)
    if backend == "openvino":
        from mlzsl.engines.openvino import open_openvino

        return open_openvino(path, manifest, device, precision, threads)
    from mlzsl.engines.onnxruntime import open_onnxruntime

    return open_onnxruntime(path, manifest, device, precision, threads)


def _precision_to_run(path: Path, manifest: Manifest, asked: str | None) -> str:
    choices = [manifest.precision, *(REDUCED_PRECISIONS if manifest.precision == "fp32" else ())]
    if asked is None or asked in choices:
        return asked or manifest.precision
    raise UsageError(
        f"--precision {asked}: {path} is a file of precision {manifest.precision}, which runs in "
        f"{' or '.join(choices)}; leave the flag out."
    )
