"""OpenVINO on a CPU: as many batches in flight as the library has streams for."""

import contextlib
import functools
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mlzsl.cli.errors import FailureError, UsageError, reason_of
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images, Scores
from mlzsl.engines.engine import ExecutionInfo, check_images, check_signature, signature

DEVICE = "CPU"
# Our precisions in OpenVINO's words: of the arithmetic that is not quantized.
TYPE_NAME = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}
CAPABILITY = {"fp16": "FP16", "bf16": "BF16"}  # that a CPU must have for it
REMEDY = {
    "fp16": "use --backend onnxruntime, or a bf16 or the fp32 file",
    "bf16": "use the fp32 file that it was made from",
}
COMPUTED = {"int8": {"i8", "u8"}, "bf16": {"bf16"}}  # types that at least one layer with weights must compute in
NUMPY_NAME = {"u8": "uint8", "f32": "float32"}


def open_openvino(path: Path, manifest: Manifest, device: str, precision: str, threads: int | None) -> "OpenVINOEngine":
    """Compile a model file with OpenVINO; arguments as `open_engine`, with the precision decided.

    Raises:
        UsageError: OpenVINO is not installed, the device or the precision is not there, or the network does not
            load.
    """
    if device != "cpu":
        raise UsageError(f"--backend openvino: runs with --device cpu, not {device}; use --backend onnxruntime.")
    openvino = _import_openvino()
    core = shared_core(openvino)
    capabilities = core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    if precision not in TYPE_NAME:
        raise UsageError(
            f"{path}: is a file of precision {precision}, and --backend openvino runs {', '.join(TYPE_NAME)}; "
            "build a plan of it with mlzsl-build, or use --backend onnxruntime to see its scores."
        )
    if CAPABILITY.get(precision, "FP32") not in capabilities:
        if precision != manifest.precision:
            what, remedy = f"--precision {precision}", f"leave the flag out to run {manifest.precision}"
        else:
            what, remedy = f"{path} is a file of precision {precision}", REMEDY[precision]
        raise UsageError(f"{what}: this CPU ({_cpu_name(core)}) has no {precision} arithmetic; {remedy}.")
    # A bf16 file says in its graph what computes in bf16. The hint would lower the rest, the head, as well.
    hint = "f32" if precision == manifest.precision == "bf16" else TYPE_NAME[precision]
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        # Never left to the library: on CPUs with bf16 arithmetic it would run an fp32 network in bf16.
        "INFERENCE_PRECISION_HINT": hint,
    }
    if precision == "int8":
        # OpenVINO 2026.4 shares packed weights between streams, and of some networks with INT8 and fp32 convolutions
        # it then gives wrong scores, in one compilation and not in the next. One stream has nothing to share.
        settings["NUM_STREAMS"] = "1"
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    try:
        network = core.read_model(path)
        check_signature(path, manifest, _signature(network))
        compiled = core.compile_model(network, DEVICE, settings)
        really = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        as_stated = precision not in COMPUTED or _computes_in(COMPUTED[precision], compiled)
    except RuntimeError as error:
        raise UsageError(f"{path}: OpenVINO cannot load the network: {reason_of(error)}") from error
    if really != hint:
        raise UsageError(f"{path}: {precision} was asked for, but OpenVINO would run {really} on this CPU.")
    if not as_stated:
        raise UsageError(
            f"{path}: OpenVINO would run not one layer of it in {precision} on this CPU; run the fp32 file that it was "
            "made from, or use --backend onnxruntime."
        )
    execution = ExecutionInfo("openvino", openvino.__version__.split("-")[0], DEVICE, _cpu_name(core), precision)
    return OpenVINOEngine(manifest, execution, compiled)


class OpenVINOEngine:
    """A network compiled by OpenVINO; answers `Engine`."""

    def __init__(self, manifest: Manifest, execution: ExecutionInfo, compiled: Any) -> None:
        self.manifest = manifest
        self.execution = execution
        # One more than there are streams, so that none is idle while the next batch is put together.
        self.in_flight = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) + 1
        self._compiled = compiled

    def run(self, batches: Iterable[Images]) -> Generator[Scores, None, None]:
        """Score batches with one request a batch; see `Engine.run`."""
        idle: list[Any] = []
        started: deque[tuple[Any, Images]] = deque()  # a request reads its batch until it is done
        try:
            for batch in batches:
                images = check_images(batch, self.manifest)
                if len(started) == self.in_flight:
                    yield _finish(started, idle)
                with _failing_clearly():
                    request = idle.pop() if idle else self._compiled.create_infer_request()
                    request.start_async([images], share_inputs=True)
                started.append((request, images))
            while started:
                yield _finish(started, idle)
        finally:
            for request, _ in started:
                with contextlib.suppress(RuntimeError):  # the first error has been raised already
                    request.wait()

    def scores(self, images: Images) -> Scores:
        """Score one batch; see `Engine.scores`."""
        return next(iter(self.run([images])))

    def close(self) -> None:
        """Let go of the compiled network; see `Engine.close`."""
        self._compiled = None


def _finish(started: deque[tuple[Any, Images]], idle: list[Any]) -> Scores:
    """Wait for the oldest request and copy its scores, as the next batch overwrites them."""
    request, _ = started.popleft()
    with _failing_clearly():
        request.wait()
        scores: Scores = np.array(request.get_output_tensor(0).data, dtype=np.float32)
    idle.append(request)
    return scores


@contextlib.contextmanager
def _failing_clearly() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise FailureError(f"OpenVINO failed on a batch: {reason_of(error)}") from error


def _signature(network: Any) -> str:
    def ports(of: Any) -> list[tuple[str, str, list[int | None]]]:
        return [
            (
                min(port.get_names(), default="?"),
                NUMPY_NAME.get(port.get_element_type().get_type_name(), port.get_element_type().get_type_name()),
                [None if side.is_dynamic else side.get_length() for side in port.get_partial_shape()],
            )
            for port in of
        ]

    return signature(ports(network.inputs), ports(network.outputs))


def _computes_in(types: set[str], compiled: Any) -> bool:
    """Whether a layer with weights computes in one of some types, once the library has fused what it fuses."""
    for layer in compiled.get_runtime_model().get_ops():
        told = {name: str(layer.get_rt_info()[name].value) for name in ("layerType", "runtimePrecision")}
        if told["layerType"] in ("Convolution", "FullyConnected") and told["runtimePrecision"] in types:
            return True
    return False


@functools.cache
def shared_core(openvino: ModuleType) -> Any:
    """The one `Core` of this process.

    Each has a CPU plugin of its own, which gives the thread an alternate stack for signals and, when it ends, puts back
    the one that it found: of two that end in the order in which they began, that is a freed one, and the next signal
    that Python handles (a child that ends) ends the process.
    """
    return openvino.Core()


def _cpu_name(core: Any) -> str:
    return str(core.get_property(DEVICE, "FULL_DEVICE_NAME")).strip()


def _import_openvino() -> ModuleType:
    try:
        import openvino
    except ModuleNotFoundError as error:
        if error.name != "openvino":
            raise
        raise UsageError(
            "--backend openvino: OpenVINO is not installed; run `pip install 'mlzsl[cpu]'`, or name another --backend."
        ) from error
    module: ModuleType = openvino
    return module
