"""CUDA streams, pinned and device memory, copies and graphs, by cuda-core.

`Cuda` is the interface; `pycuda` implements it for programs that already use PyCUDA.
"""

import ctypes
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import UsageError, reason_of

INSTEAD = "install NVIDIA's driver, or use the .onnx model file on the CPU"


@dataclass(frozen=True)
class Gpu:
    """A GPU: its name, compute capability ("8.9") and the CUDA version of its driver ("13.0")."""

    name: str
    compute_capability: str
    driver: str


@dataclass(frozen=True)
class HostMemory:
    """Page-locked memory: uint8 [bytes], and its owner."""

    array: npt.NDArray[np.uint8]
    owner: object


@dataclass(frozen=True)
class DeviceMemory:
    """Device memory: address, aligned to 256 bytes, size in bytes, and its owner."""

    address: int
    size: int
    owner: object


class CudaStream(Protocol):
    """A CUDA stream with its memory."""

    @property
    def handle(self) -> int:
        """The `CUstream`."""

    def host_memory(self, size: int) -> HostMemory:
        """Allocate page-locked memory of `size` bytes, freed by `close`."""

    def device_memory(self, size: int) -> DeviceMemory:
        """Allocate device memory of `size` bytes, freed by `close`."""

    def upload(self, target: DeviceMemory, source: HostMemory, size: int) -> None:
        """Queue a copy of the first `size` bytes to the GPU."""

    def download(self, target: HostMemory, source: DeviceMemory, size: int) -> None:
        """Queue a copy of the first `size` bytes from the GPU."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """A function that queues the same as `work`, as a CUDA graph where graphs are supported."""

    def synchronize(self) -> None:
        """Wait until all queued work is done."""

    def close(self) -> None:
        """Wait, and free the stream and its memory."""


class Cuda(Protocol):
    """An initialized GPU.

    Attributes:
        gpu: its description.
        errors: the exceptions of its calls.
    """

    gpu: Gpu
    errors: tuple[type[Exception], ...]

    def activate(self) -> None:
        """Make the GPU current in the calling thread."""

    def stream(self) -> CudaStream:
        """Create a stream."""


def open_cuda(purpose: str) -> "CudaCore":
    """Initialize the first GPU with cuda-core.

    Args:
        purpose: what needs a GPU; begins the sentence of an error.

    Raises:
        UsageError: cuda-core is not installed, or there is no driver or no GPU.
    """
    try:
        core = importlib.import_module("cuda.core")
        system = importlib.import_module("cuda.core.system")
        # Public from cuda-core 1.3 on.
        module = core if hasattr(core, "CUDAError") else importlib.import_module("cuda.core._utils.cuda_utils")
        errors = module.CUDAError, RuntimeError
    except ImportError as error:
        raise UsageError(
            f"{purpose} cuda-core is not installed, or incomplete ({reason_of(error)}); "
            "run `pip install 'mlzsl[tensorrt]'` (with TensorRT-RTX: 'mlzsl[rtx]')."
        ) from error
    try:
        device = core.Device(0)
        device.set_current()
        driver = ".".join(map(str, system.get_user_mode_driver_version()))
    except errors as error:
        missing = (
            "there is no CUDA driver"
            if type(error).__name__ == "DynamicLibNotFoundError"
            else "CUDA finds no usable GPU"
        )
        raise UsageError(f"{purpose} {missing} ({reason_of(error)}); {INSTEAD}.") from error
    capability = ".".join(map(str, device.compute_capability))
    return CudaCore(core, device, Gpu(str(device.name), capability, driver), errors)


class CudaCore(Cuda):
    """A GPU, by cuda-core."""

    def __init__(self, core: Any, device: Any, gpu: Gpu, errors: tuple[type[Exception], ...]) -> None:
        self.gpu, self.errors = gpu, errors
        self._core, self._device = core, device

    def activate(self) -> None:
        self._device.set_current()

    def stream(self) -> "CudaCoreStream":
        return CudaCoreStream(self._core, self._device)


class CudaCoreStream(CudaStream):
    """A stream and its memory, by cuda-core."""

    def __init__(self, core: Any, device: Any) -> None:
        self._core, self._device = core, device
        self._stream = device.create_stream(options=core.StreamOptions(nonblocking=True))
        self._pinned = core.LegacyPinnedMemoryResource()
        self._buffers: list[Any] = []
        self._graphs: list[Any] = []

    @property
    def handle(self) -> int:
        return int(self._stream.handle)

    def host_memory(self, size: int) -> HostMemory:
        buffer = self._pinned.allocate(size)
        self._buffers.append(buffer)
        raw = (ctypes.c_uint8 * size).from_address(int(buffer.handle))
        return HostMemory(np.ctypeslib.as_array(raw), buffer)

    def device_memory(self, size: int) -> DeviceMemory:
        buffer = self._device.allocate(size, stream=self._stream)
        self._buffers.append(buffer)
        return DeviceMemory(int(buffer.handle), size, buffer)

    def upload(self, target: DeviceMemory, source: HostMemory, size: int) -> None:
        self._part(target.owner, size).copy_from(self._part(source.owner, size), stream=self._stream)

    def download(self, target: HostMemory, source: DeviceMemory, size: int) -> None:
        self._part(target.owner, size).copy_from(self._part(source.owner, size), stream=self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """What `work` queues as one CUDA graph; see `CudaStream.capture`."""
        builder = self._stream.create_graph_builder()
        # Other threads may run engines of their own during the capture.
        builder.begin_building("thread_local")
        try:
            work()
        finally:
            builder.end_building()
        graph = builder.complete()
        self._graphs.append(graph)
        return lambda: graph.launch(self._stream)

    def synchronize(self) -> None:
        self._stream.sync()

    def close(self) -> None:
        """Wait, and free graphs, memory and stream, in this order."""
        self._stream.sync()
        for held in [*self._graphs, *self._buffers]:
            held.close()
        self._graphs, self._buffers = [], []
        self._stream.close()

    def _part(self, buffer: Any, size: int) -> Any:
        """The first `size` bytes of a buffer, as a view that keeps it alive."""
        return self._core.Buffer.from_handle(int(buffer.handle), size, owner=buffer)
