"""ONNX Runtime on a CPU, and on CUDA when asked for: never on another provider than was asked for."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

from mlzsl.cli.errors import FailureError, UsageError, reason_of
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images, Scores
from mlzsl.engines.engine import ExecutionInfo, available_cpus, check_images, check_signature, signature

PROVIDER = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# TF32 keeps 10 bits of a float32's 23: on by default in the library, and not what an fp32 file means.
PROVIDER_OPTIONS: dict[str, dict[str, str]] = {"cpu": {}, "cuda": {"use_tf32": "0"}}
EXTRA = {"cpu": "mlzsl[cpu]", "cuda": "mlzsl[gpu]"}
# A batch a core is faster than all cores on one batch (by 1.15 on two), but takes memory for each.
MOST_IN_FLIGHT = 8
NOT_ON = {"cpu": ("bf16",), "cuda": ()}  # precisions that a provider has no kernels for
NUMPY_NAME = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
ONLY_ERRORS = 3  # log severity


def open_onnxruntime(
    path: Path, manifest: Manifest, device: str, precision: str, threads: int | None
) -> "ONNXRuntimeEngine":
    """Open a model file with ONNX Runtime; arguments as `open_engine`, with the precision decided.

    Raises:
        UsageError: ONNX Runtime or its CUDA provider is not there, the precision is not the file's, or the
            network does not load.
    """
    onnxruntime = _import_onnxruntime(device)
    if precision != manifest.precision:
        raise UsageError(
            f"--precision {precision}: --backend onnxruntime runs files as they are, and {path} is of precision "
            f"{manifest.precision}; use --backend openvino, or leave the flag out."
        )
    if precision in NOT_ON[device]:
        raise UsageError(
            f"{path} is a file of precision {precision}, which --backend onnxruntime does not run on a {device}; "
            "use --backend openvino."
        )
    provider = PROVIDER[device]
    if provider not in onnxruntime.get_available_providers():
        raise UsageError(
            f"--device {device}: the installed onnxruntime has no {provider}; "
            "run `pip uninstall onnxruntime` and then `pip install 'mlzsl[gpu]'`."
        )
    if device == "cuda":
        onnxruntime.preload_dlls()  # finds CUDA and cuDNN where pip puts them
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ONLY_ERRORS
    if precision == "fp8":
        # ONNX Runtime 1.32 otherwise drops a Relu before an FP8 QuantizeLinear, as if FP8 had no negative values.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    threads = threads or available_cpus()
    in_flight = min(threads, MOST_IN_FLIGHT)
    options.intra_op_num_threads = threads - in_flight + 1  # the threads that call count as well
    providers = [(provider, PROVIDER_OPTIONS[device])]
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers, enable_fallback=0)
    except _errors(onnxruntime) as error:
        raise UsageError(f"{path}: ONNX Runtime cannot load the network: {reason_of(error)}") from error
    if session.get_providers()[0] != provider:
        raise UsageError(
            f"--device {device}: ONNX Runtime could not start its {provider} (it offers "
            f"{', '.join(session.get_providers())}); check the driver and the CUDA and cuDNN libraries."
        )
    check_signature(path, manifest, _signature(session))
    execution = ExecutionInfo("onnxruntime", onnxruntime.__version__, provider, device, precision)
    return ONNXRuntimeEngine(manifest, execution, in_flight, session, _errors(onnxruntime))


class ONNXRuntimeEngine:
    """A network in a session of ONNX Runtime; answers `Engine`."""

    def __init__(
        self,
        manifest: Manifest,
        execution: ExecutionInfo,
        in_flight: int,
        session: Any,
        errors: tuple[type[Exception], ...],
    ) -> None:
        self.manifest = manifest
        self.execution = execution
        self.in_flight = in_flight
        self._session = session
        self._errors = errors

    def run(self, batches: Iterable[Images]) -> Generator[Scores, None, None]:
        """Score batches from a few threads; see `Engine.run`."""
        started: deque[Future[Scores]] = deque()
        pool = ThreadPoolExecutor(self.in_flight, thread_name_prefix="onnxruntime")
        try:
            for batch in batches:
                images = check_images(batch, self.manifest)
                if len(started) == self.in_flight:
                    yield started.popleft().result()
                started.append(pool.submit(self.scores, images))
            while started:
                yield started.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def scores(self, images: Images) -> Scores:
        """Score one batch; see `Engine.scores`."""
        checked = check_images(images, self.manifest)
        try:
            scores: Scores = self._session.run(["scores"], {"images": checked})[0]
        except self._errors as error:
            raise FailureError(f"ONNX Runtime failed on a batch: {reason_of(error)}") from error
        return scores

    def close(self) -> None:
        """Let go of the session; see `Engine.close`."""
        self._session = None


def _signature(session: Any) -> str:
    def ports(of: Any) -> list[tuple[str, str, list[int | None]]]:
        return [
            (
                port.name,
                NUMPY_NAME.get(port.type, port.type),
                [side if isinstance(side, int) else None for side in port.shape],
            )
            for port in of
        ]

    return signature(ports(session.get_inputs()), ports(session.get_outputs()))


def _errors(onnxruntime: ModuleType) -> tuple[type[Exception], ...]:
    """The exceptions that the library throws; they have no common ancestor of its own."""
    thrown = vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
    return (RuntimeError, *(kind for kind in thrown if isinstance(kind, type) and issubclass(kind, Exception)))


def _import_onnxruntime(device: str) -> ModuleType:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        raise UsageError(
            f"--backend onnxruntime: ONNX Runtime is not installed; run `pip install '{EXTRA[device]}'`"
            + (", or use the default backend." if device == "cpu" else ".")
        ) from error
    module: ModuleType = onnxruntime
    return module
