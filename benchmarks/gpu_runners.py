"""Runners of one network on one device, all given the same batches: what gpu.py times, interleaved."""

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from mlzsl.engines.artifact.modelfile import Images, Scores, read_manifest
from mlzsl.engines.artifact.plan_manifest import read_plan
from mlzsl.engines.engine import Engine
from mlzsl.engines.onnxruntime import PROVIDER, PROVIDER_OPTIONS
from mlzsl.engines.opening import open_engine
from mlzsl.engines.tensorrt.cuda import DeviceMemory
from mlzsl.engines.tensorrt.engine import IN_FLIGHT, captures_graphs_itself, context_maker, load_plan, open_plan
from mlzsl.engines.tensorrt.library import open_library
from mlzsl.export.baseline import HalfScorer, open_scorer
from mlzsl.export.network import Scorer

PRECISIONS = ("fp32", "fp16", "int8", "fp8")
HALF = {"cuda": torch.float16, "cpu": torch.bfloat16}  # the 16-bit type that PyTorch has fast kernels for
COMPILE_MODE = {"cuda": "max-autotune", "cpu": "default"}  # its fastest; it captures CUDA graphs as well


@dataclass(frozen=True)
class DeviceBatch:
    """A batch in device memory, ready to be scored repeatedly.

    Attributes:
        run: queues the batch and returns the tensor that its scores, float32 [n, L], are written to.
        buffers: what `run` reads and writes by address; it must not be freed.
    """

    run: Callable[[], torch.Tensor]
    buffers: tuple[object, ...] = ()


@dataclass(frozen=True)
class Runner:
    """One implementation from images to scores.

    Attributes:
        name: in the record.
        with_transfers: scores a batch, uint8 [n, S, S, 3] in host memory, so many times, until all scores,
            float32 [n, L], are in host memory too; several batches are queued at once.
        on_device: uint8 [n, S, S, 3] in device memory -> the batch, ready to be scored there.
        scores: uint8 [n, S, S, 3] -> float32 [n, L], to be compared with the reference.
    """

    name: str
    with_transfers: Callable[[Images, int], None]
    on_device: Callable[[torch.Tensor], DeviceBatch]
    scores: Callable[[Images], Scores]


@dataclass(frozen=True)
class Files:
    """The files of one network in one folder: STEM.safetensors, STEM.onnx, STEM.int8.plan and so on."""

    stem: Path

    @property
    def checkpoint(self) -> Path:
        """What the files were exported from."""
        return self._with(".safetensors")

    def model(self, precision: str) -> Path:
        """The model file of a precision."""
        return self._with(".onnx" if precision == "fp32" else f".{precision}.onnx")

    def plan(self, precision: str) -> Path:
        """The plan of a precision."""
        return self.model(precision).with_suffix(".plan")

    def _with(self, suffix: str) -> Path:
        return self.stem.with_name(self.stem.name + suffix)


def openers(files: Files, device: str, threads: int) -> dict[str, Callable[[contextlib.ExitStack], Runner]]:
    """By name, the function that opens each runner; the stack closes it. On a CPU there are no plans."""
    half = str(HALF[device]).removeprefix("torch.")
    mode = COMPILE_MODE[device]
    plans = {
        f"mlzsl plan {precision}": lambda stack, precision=precision: plan_runner(
            stack, files.plan(precision), precision
        )
        for precision in (PRECISIONS if device == "cuda" else ())
    }
    sessions = {
        f"ONNX Runtime {device} {precision}": lambda stack, precision=precision: session_runner(
            stack, files.model(precision), device, f"ONNX Runtime {device} {precision}"
        )
        for precision in ("fp32", "fp16")
    }
    return {
        **plans,
        f"PyTorch eager {half}": lambda stack: torch_runner(
            f"PyTorch eager {half}", half_scorer(files, device, threads), device
        ),
        f"torch.compile {half}, {mode}": lambda stack: torch_runner(
            f"torch.compile {half}, {mode}",
            torch.compile(half_scorer(files, device, threads), mode=mode, dynamic=False),
            device,
        ),
        **sessions,
    }


def fp32_scorer(files: Files, device: str, threads: int) -> Scorer:
    """The checkpoint's network in PyTorch, fp32: the reference."""
    return open_scorer(files.checkpoint, read_manifest(files.model("fp32")), None, device, threads)


def half_scorer(files: Files, device: str, threads: int) -> torch.nn.Module:
    """The same in 16 bits, in the memory layout that tensor cores read (channels last)."""
    scorer = HalfScorer(fp32_scorer(files, device, threads), HALF[device]).eval()
    return scorer.to(memory_format=torch.channels_last)


def torch_runner(name: str, network: Callable[[torch.Tensor], torch.Tensor], device: str) -> Runner:
    """PyTorch with pinned images and asynchronous copies, as many batches queued as a plan has in flight."""
    on_gpu = device == "cuda"

    def queue(images: torch.Tensor) -> torch.Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        return network(images)

    def with_transfers(images: Images, count: int) -> None:
        execution: deque[tuple[torch.Tensor, torch.cuda.Event | None]] = deque()
        source = torch.from_numpy(images)
        for _ in range(count):
            if len(execution) == IN_FLIGHT:
                _wait(*execution.popleft())
            batch = source.pin_memory() if on_gpu else source.clone()
            scores = queue(batch.to(device, non_blocking=True)).to("cpu", non_blocking=True)
            execution.append((scores, torch.cuda.current_stream().record_event() if on_gpu else None))
        while execution:
            _wait(*execution.popleft())

    def on_device(images: torch.Tensor) -> DeviceBatch:
        return DeviceBatch(lambda: queue(images))

    def scores(images: Images) -> Scores:
        found: Scores = queue(torch.from_numpy(images).to(device)).cpu().numpy()
        return found

    return Runner(name, with_transfers, on_device, scores)


def _wait(scores: torch.Tensor, event: torch.cuda.Event | None) -> None:
    if event is not None:
        event.synchronize()


def session_runner(stack: contextlib.ExitStack, path: Path, device: str, name: str) -> Runner:
    """ONNX Runtime: from host memory as mlzsl runs it, on the device by IO binding."""
    engine = open_engine(path, device, "onnxruntime")
    stack.callback(engine.close)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    providers = [(PROVIDER[device], PROVIDER_OPTIONS[device])]
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    labels = len(engine.manifest.labels)

    def on_device(images: torch.Tensor) -> DeviceBatch:
        scores = torch.empty((len(images), labels), device=device)
        binding = session.io_binding()
        binding.bind_input("images", device, 0, np.uint8, tuple(images.shape), images.data_ptr())
        binding.bind_output("scores", device, 0, np.float32, tuple(scores.shape), scores.data_ptr())

        def run() -> torch.Tensor:
            session.run_with_iobinding(binding)
            return scores

        return DeviceBatch(run, (images,))

    return Runner(name, engine_with_transfers(engine), on_device, engine.scores)


def engine_with_transfers(engine: Engine) -> Callable[[Images, int], None]:
    """Run an engine from host memory to host memory, with at most as many batches in flight as a plan has."""
    engine.in_flight = min(engine.in_flight, IN_FLIGHT)

    def with_transfers(images: Images, count: int) -> None:
        for _ in engine.run(itertools.repeat(images, count)):
            pass

    return with_transfers


def plan_runner(stack: contextlib.ExitStack, path: Path, precision: str) -> Runner:
    """A plan: from host memory as mlzsl runs it, on the GPU by a context of its own on PyTorch's memory."""
    engine = open_plan(path)
    stack.callback(engine.close)
    manifest, plan = read_plan(path)
    library = open_library(manifest.build.library, str(path))
    loaded = load_plan(library, path, manifest, plan)
    make_context, activation_bytes = context_maker(library, loaded, graphs=True)
    labels = len(manifest.model.labels)

    def on_device(images: torch.Tensor) -> DeviceBatch:
        memory = torch.empty(max(activation_bytes, 1), dtype=torch.uint8, device="cuda")
        context = make_context(DeviceMemory(memory.data_ptr(), activation_bytes, memory) if activation_bytes else None)
        if context is None:
            raise RuntimeError("the GPU has too little free memory for another context of the plan")
        scores = torch.empty((len(images), labels), device="cuda")
        context.set_input_shape("images", tuple(images.shape))
        context.set_tensor_address("images", images.data_ptr())
        context.set_tensor_address("scores", scores.data_ptr())

        def run() -> torch.Tensor:
            if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
                raise RuntimeError(f"the plan did not take a batch of {len(images)}")
            return scores

        once = run if captures_graphs_itself(library) else captured(run)
        return DeviceBatch(once, (images, memory, context, loaded))

    return Runner(f"mlzsl plan {precision}", engine_with_transfers(engine), on_device, engine.scores)


def captured(run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """Capture what `run` queues as one CUDA graph; a first run outside of it initializes the context."""
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
        scores = run()

    def replay() -> torch.Tensor:
        graph.replay()
        return scores

    return replay


@contextlib.contextmanager
def side_stream(device: str) -> Iterator[None]:
    """A stream of PyTorch's own: TensorRT synchronizes on CUDA's default one, and no graph can be captured there."""
    with torch.inference_mode():
        if device == "cuda":
            with torch.cuda.stream(torch.cuda.Stream()):
                yield
        else:
            yield
