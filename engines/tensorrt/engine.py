"""Plans on a GPU: checked, loaded by the library that built them, and run several batches at a time."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import FailureError, UsageError, reason_of
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images, Scores, read_manifest
from mlzsl.engines.artifact.plan_manifest import PlanManifest, read_plan
from mlzsl.engines.engine import ExecutionInfo, Port, check_images, check_signature, signature
from mlzsl.engines.tensorrt.batches import scored_in_order
from mlzsl.engines.tensorrt.compatibility import check_gpu, check_version
from mlzsl.engines.tensorrt.cuda import Cuda, DeviceMemory, open_cuda
from mlzsl.engines.tensorrt.library import Library, cuda_major, open_library, port, this_platform
from mlzsl.engines.tensorrt.pycuda import open_pycuda
from mlzsl.engines.tensorrt.slot import MakeContext, PlanSlot

MEMORY: dict[str, Callable[[str], Cuda]] = {"cuda-core": open_cuda, "pycuda": open_pycuda}
IN_FLIGHT = 3  # one is copied to the GPU, one computed, one copied back


def open_plan(
    path: Path,
    device: str = "cuda",
    precision: str | None = None,
    memory: str = "cuda-core",
    in_flight: int = IN_FLIGHT,
    graphs: bool = True,
) -> "PlanEngine":
    """Open a plan that `mlzsl-build` made.

    Args:
        path: the `.plan` file; its manifest must lie beside it.
        device: "cuda".
        precision: None, or the one that the manifest states.
        memory: "cuda-core", or "pycuda" for programs that already use PyCUDA: their current context is used.
        in_flight: batches that run at once; each takes its own memory for the largest batch.
        graphs: replay usual batch sizes as CUDA graphs.

    Raises:
        UsageError: plan and manifest do not belong together, the plan does not fit this machine, or what it needs
            is not there; one sentence each, which says what to do.
    """
    if device != "cuda":
        raise UsageError(
            f"{path}: a plan runs on a GPU; add --device cuda, or name the .onnx model file to use the CPU."
        )
    manifest, plan = read_plan(path)
    if precision not in (None, manifest.model.precision):
        raise UsageError(
            f"--precision {precision}: {path} is a plan of precision {manifest.model.precision}, which runs as it is; "
            "leave the flag out, or build from a file of that precision."
        )
    if memory not in MEMORY:
        raise UsageError(f"memory={memory!r}: unknown; there are {' and '.join(MEMORY)}.")
    if in_flight < 1:
        raise UsageError(f"in_flight={in_flight}: at least one batch must run.")
    library = open_library(manifest.build.library, str(path))
    check_version(path, manifest.build, library.version, this_platform())
    cuda = MEMORY[memory](f"{path}: a plan runs on an NVIDIA GPU, and")
    check_gpu(path, manifest.build, cuda.gpu, cuda_major(library))
    engine = load_plan(library, path, manifest, plan)
    check_signature(path, manifest.model, _signature(engine))
    slots = _slots(library, engine, manifest, cuda, in_flight, graphs)
    execution = ExecutionInfo(library.key, library.version, "CUDA", cuda.gpu.name, manifest.model.precision)
    return PlanEngine(manifest, execution, cuda, engine, slots)


class PlanEngine:
    """A plan with its slots; answers `Engine`."""

    def __init__(
        self, plan: PlanManifest, execution: ExecutionInfo, cuda: Cuda, engine: Any, slots: list[PlanSlot]
    ) -> None:
        self.plan = plan
        self.manifest: Manifest = plan.model
        self.execution = execution
        self.in_flight = len(slots)
        self._cuda, self._engine, self._slots = cuda, engine, slots

    def run(self, batches: Iterable[Images]) -> Generator[Scores, None, None]:
        """Score batches in pieces that the plan takes; see `Engine.run`."""
        self._cuda.activate()
        with _failing_clearly(self._cuda):
            yield from scored_in_order(batches, self._slots[: self.in_flight], self.plan.build.batch.max, self._checked)

    def scores(self, images: Images) -> Scores:
        """Score one batch; see `Engine.scores`."""
        return next(iter(self.run([images])))

    def close(self) -> None:
        """Let go of the GPU's memory and of the plan; see `Engine.close`."""
        for slot in self._slots:
            slot.close()
        self._slots, self._engine = [], None

    def _checked(self, images: Images) -> Images:
        return check_images(images, self.manifest)


def load_plan(library: Library, path: Path, manifest: PlanManifest, plan: bytes) -> Any:
    """A plan as the library's `ICudaEngine`, with its weights.

    Args:
        library: the one that built the plan.
        path: the plan's, for messages, and where a stripped plan's model file lies.
        manifest, plan: as `read_plan` checked them.

    Raises:
        UsageError: the library does not load it, or a stripped plan's model file is not there.
    """
    runtime = library.module.Runtime(library.logger)
    if manifest.build.version_compatible:
        runtime.engine_host_code_allowed = True  # such a plan carries the runtime of its version; its hash was checked
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise UsageError(
            f"{path}: {library} does not load the plan: {library.messages.reason()}; {manifest.build.rebuild(path)}."
        )
    if manifest.build.weights_stripped:
        _refit(library, engine, path, manifest)
    return engine


def _refit(library: Library, engine: Any, path: Path, manifest: PlanManifest) -> None:
    """Give a stripped plan the weights of its model file, which must lie beside it."""
    model = path.with_name(manifest.build.model_file)
    if not model.is_file():
        raise UsageError(f"{path}: was built without its weights and needs {model}; copy that file beside the plan.")
    if read_manifest(model).network_sha256 != manifest.model.network_sha256:
        raise UsageError(f"{path}: was built without the weights of another {model}; copy that one beside the plan.")
    refitter = library.module.Refitter(engine, library.logger)
    parser = library.module.OnnxParserRefitter(refitter, library.logger)
    if not parser.refit_from_file(str(model)) or not refitter.refit_cuda_engine():
        raise UsageError(
            f"{path}: {library} does not take the weights of {model}: {library.messages.reason()}; "
            f"{manifest.build.rebuild(path)}."
        )


def _slots(
    library: Library, engine: Any, manifest: PlanManifest, cuda: Cuda, in_flight: int, graphs: bool
) -> list[PlanSlot]:
    size, labels = manifest.model.image_size, len(manifest.model.labels)
    make_context, scratch_bytes = context_maker(library, engine, graphs)
    captured = graphs and not captures_graphs_itself(library)
    with contextlib.ExitStack() as undo, _failing_clearly(cuda):
        slots = []
        for _ in range(in_flight):
            stream = cuda.stream()
            undo.callback(stream.close)
            slots.append(PlanSlot(stream, make_context, manifest.build.batch, size, labels, scratch_bytes, captured))
        undo.pop_all()
    return slots


@contextlib.contextmanager
def _failing_clearly(cuda: Cuda) -> Iterator[None]:
    try:
        yield
    except cuda.errors as error:
        raise FailureError(f"the GPU failed: {reason_of(error)}; fewer or smaller batches need less memory.") from error


def context_maker(library: Library, engine: Any, graphs: bool) -> tuple[MakeContext, int]:
    """What makes an engine's execution contexts, and the bytes of scratch memory to give it; 0 where it takes none.

    Args:
        library: TensorRT or TensorRT-RTX.
        engine: as `load_plan` gives it.
        graphs: let a library that captures CUDA graphs itself do so.
    """
    if captures_graphs_itself(library):
        return _rtx_contexts(library, engine, graphs), 0
    return _contexts(library, engine), max(int(engine.device_memory_size_v2), 1)


def captures_graphs_itself(library: Library) -> bool:
    """Whether contexts of a library replay CUDA graphs without being told to, as those of TensorRT-RTX do."""
    return library.key == "tensorrt_rtx"


def _contexts(library: Library, engine: Any) -> MakeContext:
    """Contexts of TensorRT, which share the scratch memory of their slot."""
    strategy = library.module.ExecutionContextAllocationStrategy.USER_MANAGED

    def make(scratch: DeviceMemory | None) -> Any:
        context = engine.create_execution_context(strategy)
        if context is not None and scratch is not None:
            context.set_device_memory(scratch.address, scratch.size)
        return context

    return make


def _rtx_contexts(library: Library, engine: Any, graphs: bool) -> MakeContext:
    """Contexts of TensorRT-RTX, which captures graphs itself, and compiles kernels once for all of them."""
    config = engine.create_runtime_config()
    if graphs:
        config.cuda_graph_strategy = library.module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    cache = config.create_runtime_cache()
    config.set_runtime_cache(cache)
    kept = (config, cache)  # the library holds no reference of its own to the cache

    def make(scratch: DeviceMemory | None) -> Any:
        return engine.create_execution_context(kept[0])

    return make


def _signature(engine: Any) -> str:
    inputs: list[Port] = []
    outputs: list[Port] = []
    for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
        ports = inputs if engine.get_tensor_mode(name).name == "INPUT" else outputs
        ports.append(port(name, engine.get_tensor_dtype(name), engine.get_tensor_shape(name)))
    return signature(inputs, outputs)
