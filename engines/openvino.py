"""The OpenVINO engine, on a CPU: one batch in flight per stream of the library, and one more."""

import contextlib
import functools
from collections import deque
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mlzsl.cli.errors import UsageError, reason_of
from mlzsl.cli.optional import import_optional
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images, Scores
from mlzsl.engines.engine import (
    Engine,
    ExecutionInfo,
    Port,
    check_images,
    check_scores,
    check_signature,
    failing_as,
    signature,
)

DEVICE = "CPU"
TYPE_NAME = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}  # of the arithmetic that is not quantized
CAPABILITY = {"fp16": "FP16", "bf16": "BF16"}  # that the CPU needs
REMEDY = {
    "fp16": "use --backend onnxruntime, or a bf16 or the fp32 file",
    "bf16": "use the fp32 file that it was made from",
}
COMPUTED = {"int8": {"i8", "u8"}, "bf16": {"bf16"}}  # types, one of which at least one layer with weights must run in
REPORT = "verify the model file with mlzsl-verify, or use another --backend"
NUMPY_NAME = {"u8": "uint8", "f32": "float32"}


def open_openvino(path: Path, manifest: Manifest, device: str, precision: str, threads: int | None) -> "OpenVINOEngine":
    """Compile a model file with OpenVINO; arguments as `open_engine`, with the precision decided.

    Raises:
        UsageError: OpenVINO, the device or the precision is not available, or the network cannot be loaded.
    """
    if device != "cpu":
        raise UsageError(f"--backend openvino: runs with --device cpu, not {device}; use --backend onnxruntime.")
    openvino = import_optional(
        "openvino",
        "--backend openvino: OpenVINO is not installed; run `pip install 'mlzsl[cpu]'`, or use another --backend.",
    )
    core = shared_core(openvino)
    cpu = str(core.get_property(DEVICE, "FULL_DEVICE_NAME")).strip()
    if precision not in TYPE_NAME:
        raise UsageError(
            f"{path}: is a file of precision {precision}, and --backend openvino runs {', '.join(TYPE_NAME)}; "
            "build a plan of it with mlzsl-build, or compute its scores with --backend onnxruntime."
        )
    if CAPABILITY.get(precision, "FP32") not in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"):
        if precision != manifest.precision:
            what, remedy = f"--precision {precision}", f"leave the flag out to run {manifest.precision}"
        else:
            what, remedy = f"{path} is a file of precision {precision}", REMEDY[precision]
        raise UsageError(f"{what}: this CPU ({cpu}) has no {precision} arithmetic; {remedy}.")
    # The graph of a bf16 file states what computes in bf16. The hint would convert the head as well.
    hint = "f32" if precision == manifest.precision == "bf16" else TYPE_NAME[precision]
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        # By default the library runs fp32 networks in bf16 on CPUs that have it.
        "INFERENCE_PRECISION_HINT": hint,
    }
    if precision == "int8":
        # With several streams OpenVINO 2026.4 shares packed weights between them, and compiles some networks with INT8
        # and fp32 convolutions to wrong scores, not every time.
        settings["NUM_STREAMS"] = "1"
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    try:
        network = core.read_model(path)
        check_signature(path, manifest, signature(_ports(network.inputs), _ports(network.outputs)))
        compiled = core.compile_model(network, DEVICE, settings)
        found = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        computes = precision not in COMPUTED or _computes_in(COMPUTED[precision], compiled)
    except RuntimeError as error:
        raise UsageError(f"{path}: OpenVINO cannot load the network: {reason_of(error)}.") from error
    if found != hint:
        raise UsageError(
            f"{path}: OpenVINO would run {found} on this CPU, expected {precision}; use another --backend."
        )
    if not computes:
        raise UsageError(
            f"{path}: OpenVINO would run no layer of it in {precision} on this CPU; run the fp32 file that it was made "
            "from, or use --backend onnxruntime."
        )
    execution = ExecutionInfo("openvino", openvino.__version__.split("-")[0], DEVICE, cpu, precision)
    return OpenVINOEngine(manifest, execution, compiled)


class OpenVINOEngine(Engine):
    """An engine on a network compiled by OpenVINO."""

    def __init__(self, manifest: Manifest, execution: ExecutionInfo, compiled: Any) -> None:
        self.manifest, self.execution, self._compiled = manifest, execution, compiled
        # One more than streams, so that the next batch is ready when one ends.
        self.in_flight = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) + 1

    def run(self, batches: Iterable[Images]) -> Generator[Scores, None, None]:
        """Score batches with one request each; see `Engine.run`."""
        idle: list[Any] = []
        started: deque[tuple[Any, Images]] = deque()  # a request reads its batch until it is done
        try:
            for batch in batches:
                images = check_images(batch, self.manifest)
                if len(started) == self.in_flight:
                    yield check_scores(_finish(started, idle), self.execution)
                with failing_as("OpenVINO", (RuntimeError,), REPORT):
                    request = idle.pop() if idle else self._compiled.create_infer_request()
                    request.start_async([images], share_inputs=True)
                started.append((request, images))
            while started:
                yield check_scores(_finish(started, idle), self.execution)
        finally:
            for request, _ in started:
                with contextlib.suppress(RuntimeError):  # the first error has been raised already
                    request.wait()

    def close(self) -> None:
        self._compiled = None


def _finish(started: deque[tuple[Any, Images]], idle: list[Any]) -> Scores:
    """Wait for the oldest request and copy its scores, which the next batch overwrites."""
    request, _ = started.popleft()
    with failing_as("OpenVINO", (RuntimeError,), REPORT):
        request.wait()
        scores: Scores = np.array(request.get_output_tensor(0).data, dtype=np.float32)
    idle.append(request)
    return scores


def _ports(values: Any) -> list[Port]:
    return [
        (
            min(value.get_names(), default="?"),
            NUMPY_NAME.get(value.get_element_type().get_type_name(), value.get_element_type().get_type_name()),
            [None if side.is_dynamic else side.get_length() for side in value.get_partial_shape()],
        )
        for value in values
    ]


def _computes_in(types: set[str], compiled: Any) -> bool:
    """Whether a layer with weights computes in one of some types, after the library's fusions."""
    return any(
        str(info["layerType"].value) in ("Convolution", "FullyConnected")
        and str(info["runtimePrecision"].value) in types
        for info in (layer.get_rt_info() for layer in compiled.get_runtime_model().get_ops())
    )


@functools.cache
def shared_core(openvino: Any) -> Any:
    """The one `Core` of this process.

    The CPU plugin of each `Core` gives the thread an alternate signal stack and, when it ends, restores the one before.
    If two end in the order in which they began, that is a freed one, and the next signal that Python handles (a child
    process that ends) crashes the process.
    """
    return openvino.Core()
