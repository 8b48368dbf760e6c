"""CUDA, as much of it as running a plan takes: streams, pinned and device memory, copies, graphs; from cuda-core.

`Cuda` is what an executor is written against. `tensorrt_pycuda` answers it for programs that already use PyCUDA.
"""

import ctypes
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import UsageError, reason_of

INSTEAD = "install NVIDIA's driver, or tag with the .onnx model file on the CPU"


@dataclass(frozen=True)
class Gpu:
    """The GPU in use: its name, its compute capability ("8.9") and the CUDA version of its driver ("13.0")."""

    name: str
    compute_capability: str
    driver: str


@dataclass(frozen=True)
class HostMemory:
    """Page-locked memory: uint8 [bytes], and what owns it."""

    array: npt.NDArray[np.uint8]
    owner: object


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of the GPU: its address, aligned to 256 bytes, its size in bytes, and what owns it."""

    address: int
    size: int
    owner: object


class CudaStream(Protocol):
    """A queue of work for the GPU, which is done in order."""

    @property
    def handle(self) -> int:
        """The `CUstream`."""

    def host_memory(self, size: int) -> HostMemory:
        """Page-locked memory of `size` bytes, which lives until the stream is closed."""

    def device_memory(self, size: int) -> DeviceMemory:
        """Memory of the GPU of `size` bytes, which lives until the stream is closed."""

    def upload(self, target: DeviceMemory, source: HostMemory, size: int) -> None:
        """Queue a copy of the first `size` bytes to the GPU."""

    def download(self, target: HostMemory, source: DeviceMemory, size: int) -> None:
        """Queue a copy of the first `size` bytes from the GPU."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Something that queues what `work` queues, in one go where CUDA graphs are to be had."""

    def synchronize(self) -> None:
        """Wait until everything queued is done."""

    def close(self) -> None:
        """Wait, and let go of the stream and its memory."""


class Cuda(Protocol):
    """A GPU that was made ready."""

    @property
    def gpu(self) -> Gpu:
        """Which one it is."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What its calls raise when the GPU fails."""

    def activate(self) -> None:
        """Make the GPU the calling thread's."""

    def stream(self) -> CudaStream:
        """A new stream."""


def find_gpu(purpose: str) -> Gpu:
    """The GPU that CUDA names first.

    Args:
        purpose: what needs a GPU, as the beginning of a sentence that goes on with what is wrong.

    Raises:
        UsageError: cuda-core is not installed, or there is no driver or no GPU.
    """
    return open_cuda(purpose).gpu


def open_cuda(purpose: str) -> "CudaCore":
    """Make the first GPU ready with cuda-core; arguments and errors as `find_gpu`."""
    try:
        core = importlib.import_module("cuda.core")
        system = importlib.import_module("cuda.core.system")
        errors = importlib.import_module("cuda.core._utils.cuda_utils").CUDAError, RuntimeError
    except ImportError as error:
        raise UsageError(
            f"{purpose} cuda-core is not installed, or not whole ({reason_of(error)}); "
            "run `pip install 'mlzsl[tensorrt]'` (with TensorRT-RTX: 'mlzsl[rtx]')."
        ) from error
    try:
        device = core.Device(0)
        device.set_current()
        driver = ".".join(map(str, system.get_user_mode_driver_version()))
    except errors as error:
        missing = "there is no CUDA driver here" if _is_loader_error(error) else "CUDA finds no usable GPU here"
        raise UsageError(f"{purpose} {missing} ({reason_of(error)}); {INSTEAD}.") from error
    capability = ".".join(map(str, device.compute_capability))
    return CudaCore(core, device, Gpu(str(device.name), capability, driver), errors)


def _is_loader_error(error: Exception) -> bool:
    return type(error).__name__ == "DynamicLibNotFoundError"


class CudaCore:
    """A GPU by way of cuda-core; answers `Cuda`."""

    def __init__(self, core: Any, device: Any, gpu: Gpu, errors: tuple[type[Exception], ...]) -> None:
        self.gpu = gpu
        self.errors = errors
        self._core, self._device = core, device

    def activate(self) -> None:
        """Make the GPU the calling thread's; see `Cuda.activate`."""
        self._device.set_current()

    def stream(self) -> "CudaCoreStream":
        """A new stream; see `Cuda.stream`."""
        return CudaCoreStream(self._core, self._device)


class CudaCoreStream:
    """A stream and its memory by way of cuda-core; answers `CudaStream`."""

    def __init__(self, core: Any, device: Any) -> None:
        self._core, self._device = core, device
        self._stream = device.create_stream(options=core.StreamOptions(nonblocking=True))
        self._pinned = core.LegacyPinnedMemoryResource()
        self._buffers: list[Any] = []
        self._graphs: list[Any] = []

    @property
    def handle(self) -> int:
        """The `CUstream`."""
        return int(self._stream.handle)

    def host_memory(self, size: int) -> HostMemory:
        """Page-locked memory; see `CudaStream.host_memory`."""
        buffer = self._pinned.allocate(size)
        self._buffers.append(buffer)
        raw = (ctypes.c_uint8 * size).from_address(int(buffer.handle))
        return HostMemory(np.ctypeslib.as_array(raw), buffer)

    def device_memory(self, size: int) -> DeviceMemory:
        """Memory of the GPU; see `CudaStream.device_memory`."""
        buffer = self._device.allocate(size, stream=self._stream)
        self._buffers.append(buffer)
        return DeviceMemory(int(buffer.handle), size, buffer)

    def upload(self, target: DeviceMemory, source: HostMemory, size: int) -> None:
        """Queue a copy to the GPU; see `CudaStream.upload`."""
        self._part(target.owner, size).copy_from(self._part(source.owner, size), stream=self._stream)

    def download(self, target: HostMemory, source: DeviceMemory, size: int) -> None:
        """Queue a copy from the GPU; see `CudaStream.download`."""
        self._part(target.owner, size).copy_from(self._part(source.owner, size), stream=self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """What `work` queues as one CUDA graph; see `CudaStream.capture`."""
        builder = self._stream.create_graph_builder()
        # Only this thread's calls must keep to what a capture allows: others may run engines of their own.
        builder.begin_building("thread_local")
        try:
            work()
        finally:
            builder.end_building()
        graph = builder.complete()
        self._graphs.append(graph)
        return lambda: graph.launch(self._stream)

    def synchronize(self) -> None:
        """Wait until everything queued is done."""
        self._stream.sync()

    def close(self) -> None:
        """Wait, and let go of graphs, memory and stream, in this order."""
        self._stream.sync()
        for held in [*self._graphs, *self._buffers]:
            held.close()
        self._graphs, self._buffers = [], []
        self._stream.close()

    def _part(self, buffer: Any, size: int) -> Any:
        """The first `size` bytes of a buffer, as a view that keeps it alive."""
        return self._core.Buffer.from_handle(int(buffer.handle), size, owner=buffer)
