"""The TensorRT engine: opens a plan with the library that built it, and runs several batches at once."""

import contextlib
from collections.abc import Callable, Generator, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.modelfile import Images, Scores, read_manifest
from mlzsl.engines.artifact.plan_manifest import PlanManifest, read_plan
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
from mlzsl.engines.tensorrt.batches import scored_in_order
from mlzsl.engines.tensorrt.compatibility import check_gpu, check_version
from mlzsl.engines.tensorrt.cuda import Cuda, DeviceMemory, open_cuda
from mlzsl.engines.tensorrt.library import Library, cuda_major, open_library, port, this_platform
from mlzsl.engines.tensorrt.pycuda import open_pycuda
from mlzsl.engines.tensorrt.slot import MakeContext, PlanSlot

MEMORY: dict[str, Callable[[str], Cuda]] = {"cuda-core": open_cuda, "pycuda": open_pycuda}
REMEDY = "smaller batches need less memory"
IN_FLIGHT = 3  # batches: one copied to the GPU, one computed, one copied back


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
        path: the `.plan` file, with its manifest beside it.
        device: "cuda".
        precision: None, or that of the manifest.
        memory: "cuda-core", or "pycuda" to run in the current PyCUDA context of the program.
        in_flight: number of batches that run at once, each with memory for the largest batch.
        graphs: replay frequent batch sizes as CUDA graphs.

    Raises:
        UsageError: plan and manifest do not match, the plan is not compatible with this machine, or a library or the
            GPU is missing.
    """
    if device != "cuda":
        raise UsageError(f"{path}: a plan runs on a GPU; add --device cuda, or use the .onnx model file on the CPU.")
    manifest, plan = read_plan(path)
    if precision not in (None, manifest.model.precision):
        raise UsageError(
            f"--precision {precision}: {path} is a plan of precision {manifest.model.precision}, which runs as it is; "
            "leave the flag out, or build from a file of that precision."
        )
    if memory not in MEMORY:
        raise UsageError(f"memory={memory!r}: unknown, expected {' or '.join(MEMORY)}.")
    if in_flight < 1:
        raise UsageError(f"in_flight={in_flight}: expected at least 1.")
    library = open_library(manifest.build.library, str(path))
    check_version(path, manifest.build, library.version, this_platform())
    cuda = MEMORY[memory](f"{path}: a plan runs on an NVIDIA GPU, and")
    check_gpu(path, manifest.build, cuda.gpu, cuda_major(library))
    engine = load_plan(library, path, manifest, plan)
    check_signature(path, manifest.model, _signature(engine))
    execution = ExecutionInfo(library.key, library.version, "CUDA", cuda.gpu.name, manifest.model.precision)
    return PlanEngine(manifest, execution, cuda, engine, _slots(library, engine, manifest, cuda, in_flight, graphs))


class PlanEngine(Engine):
    """An engine on a plan; `plan` is the plan's manifest."""

    def __init__(
        self, plan: PlanManifest, execution: ExecutionInfo, cuda: Cuda, engine: Any, slots: list[PlanSlot]
    ) -> None:
        self.plan, self.manifest = plan, plan.model
        self.execution, self.in_flight = execution, len(slots)
        self._cuda, self._engine, self._slots = cuda, engine, slots

    def run(self, batches: Iterable[Images]) -> Generator[Scores, None, None]:
        """Score batches in pieces of at most the plan's largest batch; see `Engine.run`."""
        self._cuda.activate()
        with failing_as("the GPU", self._cuda.errors, REMEDY):
            check = partial(check_images, manifest=self.manifest)
            slots, most = self._slots[: self.in_flight], self.plan.build.batch.max
            with contextlib.closing(scored_in_order(batches, slots, most, check)) as found:
                for scores in found:
                    yield check_scores(scores, self.execution)

    def close(self) -> None:
        """Free the GPU's memory and the plan; see `Engine.close`."""
        for slot in self._slots:
            slot.close()
        self._slots, self._engine = [], None


def load_plan(library: Library, path: Path, manifest: PlanManifest, plan: bytes) -> Any:
    """Load a plan as the library's `ICudaEngine`, with its weights.

    Args:
        library: that built the plan.
        path: of the plan; a stripped plan's model file is in the same folder.
        manifest, plan: from `read_plan`.

    Raises:
        UsageError: the library cannot load it, or a stripped plan's model file is missing.
    """
    runtime = library.module.Runtime(library.logger)
    if manifest.build.version_compatible:
        runtime.engine_host_code_allowed = True  # it contains the runtime of its version; its hash was checked
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise UsageError(
            f"{path}: {library} cannot load the plan: {library.messages.reason()}; {manifest.build.rebuild(path)}."
        )
    if manifest.build.weights_stripped:
        _refit(library, engine, path, manifest)
    return engine


def _refit(library: Library, engine: Any, path: Path, manifest: PlanManifest) -> None:
    """Load the weights of a stripped plan from its model file in the same folder."""
    model = path.with_name(manifest.build.model_file)
    if not model.is_file():
        raise UsageError(f"{path}: was built with --strip-weights and needs {model}; copy that file beside the plan.")
    if read_manifest(model).network_sha256 != manifest.model.network_sha256:
        raise UsageError(f"{path}: was built with --strip-weights from another {model}; copy that one beside the plan.")
    refitter = library.module.Refitter(engine, library.logger)
    parser = library.module.OnnxParserRefitter(refitter, library.logger)
    if not parser.refit_from_file(str(model)) or not refitter.refit_cuda_engine():
        raise UsageError(
            f"{path}: {library} refuses the weights of {model}: {library.messages.reason()}; "
            f"{manifest.build.rebuild(path)}."
        )


def _slots(
    library: Library, engine: Any, manifest: PlanManifest, cuda: Cuda, in_flight: int, graphs: bool
) -> list[PlanSlot]:
    size, labels = manifest.model.image_size, len(manifest.model.labels)
    make_context, activation_bytes = context_maker(library, engine, graphs)
    capture = graphs and not captures_graphs_itself(library)
    with contextlib.ExitStack() as undo, failing_as("the GPU", cuda.errors, REMEDY):
        slots = []
        for _ in range(in_flight):
            stream = cuda.stream()
            undo.callback(stream.close)
            slots.append(PlanSlot(stream, make_context, manifest.build.batch, size, labels, activation_bytes, capture))
        undo.pop_all()
    return slots


def context_maker(library: Library, engine: Any, graphs: bool) -> tuple[MakeContext, int]:
    """A function that makes execution contexts, and the bytes of activation memory that it takes; 0 for none.

    Args:
        library: TensorRT or TensorRT-RTX.
        engine: from `load_plan`.
        graphs: whether TensorRT-RTX captures CUDA graphs.
    """
    if not captures_graphs_itself(library):
        strategy = library.module.ExecutionContextAllocationStrategy.USER_MANAGED

        def make(activation: DeviceMemory | None) -> Any:
            context = engine.create_execution_context(strategy)
            if context is not None and activation is not None:
                context.set_device_memory(activation.address, activation.size)
            return context

        return make, max(int(engine.device_memory_size_v2), 1)
    config = engine.create_runtime_config()
    if graphs:
        config.cuda_graph_strategy = library.module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    cache = config.create_runtime_cache()  # the contexts share the kernels that they compile
    config.set_runtime_cache(cache)
    owners = (config, cache)  # the library holds no reference to the cache
    return lambda _: engine.create_execution_context(owners[0]), 0


def captures_graphs_itself(library: Library) -> bool:
    """Whether a library captures CUDA graphs on its own, as TensorRT-RTX does."""
    return library.key == "tensorrt_rtx"


def _signature(engine: Any) -> str:
    inputs: list[Port] = []
    outputs: list[Port] = []
    for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
        ports = inputs if engine.get_tensor_mode(name).name == "INPUT" else outputs
        ports.append(port(name, engine.get_tensor_dtype(name), engine.get_tensor_shape(name)))
    return signature(inputs, outputs)
