"""The ONNX Runtime engine, on a CPU or with CUDA."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import UsageError, reason_of
from mlzsl.cli.optional import import_optional
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images, Scores
from mlzsl.engines.engine import (
    Engine,
    ExecutionInfo,
    Port,
    available_cpus,
    check_images,
    check_scores,
    check_signature,
    failing_as,
    signature,
)

PROVIDER = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# TF32, on by default in the library, rounds a float32's 23 bits to 10, which an fp32 file does not mean.
PROVIDER_OPTIONS: dict[str, dict[str, str]] = {"cpu": {}, "cuda": {"use_tf32": "0"}}
EXTRA = {"cpu": "mlzsl[cpu]", "cuda": "mlzsl[gpu]"}
# One batch per core is faster than all cores on one batch (by a factor of 1.15 on two), but takes memory for each.
MOST_IN_FLIGHT = 8
UNSUPPORTED = {"cpu": ("bf16",), "cuda": ()}  # precisions that a provider has no kernels for
NUMPY_NAME = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
ONLY_ERRORS = 3  # log severity


def open_onnxruntime(
    path: Path, manifest: Manifest, device: str, precision: str, threads: int | None
) -> "ONNXRuntimeEngine":
    """Open a model file with ONNX Runtime; arguments as `open_engine`, with the precision decided.

    Raises:
        UsageError: ONNX Runtime or its CUDA provider is not available, the precision is not the file's, or the network
            cannot be loaded.
    """
    onnxruntime = import_optional(
        "onnxruntime",
        f"--backend onnxruntime: ONNX Runtime is not installed; run `pip install '{EXTRA[device]}'`"
        + (", or use the default backend." if device == "cpu" else "."),
    )
    if precision != manifest.precision:
        raise UsageError(
            f"--precision {precision}: --backend onnxruntime runs a file in its own precision, and {path} is of "
            f"precision {manifest.precision}; use --backend openvino, or leave the flag out."
        )
    if precision in UNSUPPORTED[device]:
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
        onnxruntime.preload_dlls()  # finds the CUDA and cuDNN libraries that pip installed
    threads = threads or available_cpus()
    in_flight = min(threads, MOST_IN_FLIGHT)
    try:
        # `in_flight` threads of ours call the session, and compute as well.
        session = start_session(onnxruntime, path, threads - in_flight + 1, device, fp8=precision == "fp8")
    except library_errors(onnxruntime) as error:
        raise UsageError(f"{path}: ONNX Runtime cannot load the network: {reason_of(error)}.") from error
    if session.get_providers()[0] != provider:
        raise UsageError(
            f"--device {device}: ONNX Runtime could not start its {provider} (it offers "
            f"{', '.join(session.get_providers())}); check the driver and the CUDA and cuDNN libraries."
        )
    check_signature(path, manifest, signature(_ports(session.get_inputs()), _ports(session.get_outputs())))
    return ONNXRuntimeEngine(
        manifest,
        ExecutionInfo("onnxruntime", onnxruntime.__version__, provider, device, precision),
        in_flight,
        session,
        library_errors(onnxruntime),
    )


def start_session(onnxruntime: Any, model: Path | bytes, threads: int, device: str = "cpu", fp8: bool = False) -> Any:
    """Start an `InferenceSession` without fallback to other providers.

    Args:
        onnxruntime: the imported module.
        model: a file, or a serialized network.
        threads: of one run.
        device: "cpu" or "cuda".
        fp8: whether the network is quantized to FP8.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ONLY_ERRORS
    options.intra_op_num_threads = threads
    if fp8:  # ONNX Runtime 1.32 removes a Relu before an FP8 QuantizeLinear, as if FP8 had no negative values
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(
        model, options, providers=[(PROVIDER[device], PROVIDER_OPTIONS[device])], enable_fallback=0
    )


class ONNXRuntimeEngine(Engine):
    """An engine on a session of ONNX Runtime."""

    def __init__(
        self,
        manifest: Manifest,
        execution: ExecutionInfo,
        in_flight: int,
        session: Any,
        errors: tuple[type[Exception], ...],
    ) -> None:
        self.manifest, self.execution, self.in_flight = manifest, execution, in_flight
        self._session, self._errors = session, errors

    def run(self, batches: Iterable[Images]) -> Generator[Scores, None, None]:
        """Score batches from `in_flight` threads; see `Engine.run`."""
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
        checked = check_images(images, self.manifest)
        with failing_as("ONNX Runtime", self._errors, "smaller batches need less memory"):
            scores: Scores = self._session.run(["scores"], {"images": checked})[0]
        return check_scores(scores, self.execution)

    def close(self) -> None:
        self._session = None


def _ports(values: Any) -> list[Port]:
    return [
        (
            value.name,
            NUMPY_NAME.get(value.type, value.type),
            [side if isinstance(side, int) else None for side in value.shape],
        )
        for value in values
    ]


def library_errors(onnxruntime: Any) -> tuple[type[Exception], ...]:
    """The exceptions of the library, which have no common ancestor of its own."""
    members = vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
    return (RuntimeError, *(kind for kind in members if isinstance(kind, type) and issubclass(kind, Exception)))
