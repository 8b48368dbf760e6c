"""The ways in which pictures become scores on one device, each run on the same batches: what gpu.py times in turns."""

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
HALF = {"cuda": torch.float16, "cpu": torch.bfloat16}  # what PyTorch has fast kernels for
COMPILE_MODE = {"cuda": "max-autotune", "cpu": "default"}  # its fastest; it captures CUDA graphs as well


@dataclass(frozen=True)
class Resident:
    """A batch that lies on the device, ready to be scored again and again.

    Attributes:
        run: queues it; where its scores, float32 [n, L], are or will be.
        kept: what `run` works on by its address alone.
    """

    run: Callable[[], torch.Tensor]
    kept: tuple[object, ...] = ()


@dataclass(frozen=True)
class Way:
    """One way from pictures to scores.

    Attributes:
        name: what it is.
        copied: scores a batch, uint8 [n, S, S, 3] in host memory, so many times, until all scores, float32 [n, L], are
            in host memory as well; several batches are queued at once.
        resident: uint8 [n, S, S, 3] on the device -> what scores them there.
        scores: uint8 [n, S, S, 3] -> float32 [n, L], to see by how much it differs.
    """

    name: str
    copied: Callable[[Images, int], None]
    resident: Callable[[torch.Tensor], Resident]
    scores: Callable[[Images], Scores]


@dataclass(frozen=True)
class Files:
    """The files of one network, which lie beside each other: STEM.safetensors, STEM.onnx, STEM.int8.plan and so on."""

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


def openers(files: Files, device: str, threads: int) -> dict[str, Callable[[contextlib.ExitStack], Way]]:
    """By name, what opens each way; what it holds is closed by the stack. On a CPU there are no plans."""
    half = str(HALF[device]).removeprefix("torch.")
    mode = COMPILE_MODE[device]
    plans = {
        f"mlzsl plan {precision}": lambda stack, precision=precision: plan_way(stack, files.plan(precision), precision)
        for precision in (PRECISIONS if device == "cuda" else ())
    }
    sessions = {
        f"ONNX Runtime {device} {precision}": lambda stack, precision=precision: session_way(
            stack, files.model(precision), device, f"ONNX Runtime {device} {precision}"
        )
        for precision in ("fp32", "fp16")
    }
    return {
        **plans,
        f"PyTorch eager {half}": lambda stack: torch_way(
            f"PyTorch eager {half}", half_scorer(files, device, threads), device
        ),
        f"torch.compile {half}, {mode}": lambda stack: torch_way(
            f"torch.compile {half}, {mode}",
            torch.compile(half_scorer(files, device, threads), mode=mode, dynamic=False),
            device,
        ),
        **sessions,
    }


def fp32_scorer(files: Files, device: str, threads: int) -> Scorer:
    """The checkpoint's network in PyTorch, fp32: whose scores are right."""
    return open_scorer(files.checkpoint, read_manifest(files.model("fp32")), None, device, threads)


def half_scorer(files: Files, device: str, threads: int) -> torch.nn.Module:
    """The same in two bytes a value, its convolutions in the memory layout that tensor cores read."""
    scorer = HalfScorer(fp32_scorer(files, device, threads), HALF[device]).eval()
    return scorer.to(memory_format=torch.channels_last)


def torch_way(name: str, network: Callable[[torch.Tensor], torch.Tensor], device: str) -> Way:
    """PyTorch with pinned pictures and asynchronous copies, as many batches queued as a plan has in flight."""
    on_gpu = device == "cuda"

    def queue(images: torch.Tensor) -> torch.Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        return network(images)

    def copied(images: Images, count: int) -> None:
        execution: deque[tuple[torch.Tensor, torch.cuda.Event | None]] = deque()
        source = torch.from_numpy(images)
        for _ in range(count):
            if len(execution) == IN_FLIGHT:
                _wait(*execution.popleft())
            pictures = source.pin_memory() if on_gpu else source.clone()
            scores = queue(pictures.to(device, non_blocking=True)).to("cpu", non_blocking=True)
            execution.append((scores, torch.cuda.current_stream().record_event() if on_gpu else None))
        while execution:
            _wait(*execution.popleft())

    def resident(pictures: torch.Tensor) -> Resident:
        return Resident(lambda: queue(pictures))

    def scores(images: Images) -> Scores:
        found: Scores = queue(torch.from_numpy(images).to(device)).cpu().numpy()
        return found

    return Way(name, copied, resident, scores)


def _wait(scores: torch.Tensor, event: torch.cuda.Event | None) -> None:
    if event is not None:
        event.synchronize()


def session_way(stack: contextlib.ExitStack, path: Path, device: str, name: str) -> Way:
    """ONNX Runtime: from host memory as mlzsl runs it, on the device by binding what lies there."""
    engine = open_engine(path, device, "onnxruntime")
    stack.callback(engine.close)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    providers = [(PROVIDER[device], PROVIDER_OPTIONS[device])]
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    labels = len(engine.manifest.labels)

    def resident(pictures: torch.Tensor) -> Resident:
        scores = torch.empty((len(pictures), labels), device=device)
        binding = session.io_binding()
        binding.bind_input("images", device, 0, np.uint8, tuple(pictures.shape), pictures.data_ptr())
        binding.bind_output("scores", device, 0, np.float32, tuple(scores.shape), scores.data_ptr())

        def run() -> torch.Tensor:
            session.run_with_iobinding(binding)
            return scores

        return Resident(run, (pictures,))

    return Way(name, engine_copied(engine), resident, engine.scores)


def engine_copied(engine: Engine) -> Callable[[Images, int], None]:
    """An engine's own way from host memory to host memory, with at most as many batches in flight as a plan has."""
    engine.in_flight = min(engine.in_flight, IN_FLIGHT)

    def copied(images: Images, count: int) -> None:
        for _ in engine.run(itertools.repeat(images, count)):
            pass

    return copied


def plan_way(stack: contextlib.ExitStack, path: Path, precision: str) -> Way:
    """A plan: from host memory as mlzsl runs it, on the GPU by a context of its own that works on PyTorch's memory."""
    engine = open_plan(path)
    stack.callback(engine.close)
    manifest, plan = read_plan(path)
    library = open_library(manifest.build.library, str(path))
    loaded = load_plan(library, path, manifest, plan)
    make_context, scratch_bytes = context_maker(library, loaded, graphs=True)
    labels = len(manifest.model.labels)

    def resident(pictures: torch.Tensor) -> Resident:
        memory = torch.empty(max(scratch_bytes, 1), dtype=torch.uint8, device="cuda")
        context = make_context(DeviceMemory(memory.data_ptr(), scratch_bytes, memory) if scratch_bytes else None)
        if context is None:
            raise RuntimeError("the GPU has too little free memory for another context of the plan")
        scores = torch.empty((len(pictures), labels), device="cuda")
        context.set_input_shape("images", tuple(pictures.shape))
        context.set_tensor_address("images", pictures.data_ptr())
        context.set_tensor_address("scores", scores.data_ptr())

        def run() -> torch.Tensor:
            if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
                raise RuntimeError(f"the plan did not take a batch of {len(pictures)}")
            return scores

        once = run if captures_graphs_itself(library) else captured(run)
        return Resident(once, (pictures, memory, context, loaded))

    return Way(f"mlzsl plan {precision}", engine_copied(engine), resident, engine.scores)


def captured(run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """What is queued as one CUDA graph of PyTorch's; the first run, which settles a context's state, is not in it."""
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
