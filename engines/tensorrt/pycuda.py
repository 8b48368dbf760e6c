"""PyCUDA as the allocator, for programs that already use it: plans run in the context that is current there.

PyCUDA captures no CUDA graphs, so each batch is queued call by call.
"""

import importlib
from collections.abc import Callable
from typing import Any

from mlzsl.cli.errors import UsageError, reason_of
from mlzsl.engines.tensorrt.cuda import DeviceMemory, Gpu, HostMemory


def open_pycuda(purpose: str) -> "PyCuda":
    """Take the CUDA context that the calling thread works in.

    Args:
        purpose: what needs a GPU, as the beginning of a sentence that goes on with what is wrong.

    Raises:
        UsageError: PyCUDA is not installed, or the thread has no context.
    """
    try:
        driver: Any = importlib.import_module("pycuda.driver")
    except ImportError as error:
        raise UsageError(
            f"{purpose} PyCUDA cannot be imported ({reason_of(error)}); run `pip install 'mlzsl[pycuda]'`, which needs "
            "the CUDA toolkit and a C++ compiler, or leave memory='pycuda' out."
        ) from error
    try:
        driver.init()
        device = driver.Context.get_device()
    except driver.Error as error:
        raise UsageError(
            f"{purpose} this thread has no CUDA context of PyCUDA's ({reason_of(error)}); "
            "make one first, such as with `import pycuda.autoprimaryctx`."
        ) from error
    version = driver.get_driver_version()  # 13000 for CUDA 13.0
    capability = ".".join(map(str, device.compute_capability()))
    return PyCuda(driver, Gpu(device.name(), capability, f"{version // 1000}.{version % 1000 // 10}"))


class PyCuda:
    """The program's own CUDA context; answers `Cuda`."""

    def __init__(self, driver: Any, gpu: Gpu) -> None:
        self.gpu = gpu
        self.errors: tuple[type[Exception], ...] = (driver.Error,)
        self._driver = driver

    def activate(self) -> None:
        """Nothing: which context is current is the program's business."""

    def stream(self) -> "PyCudaStream":
        """A new stream; see `Cuda.stream`."""
        return PyCudaStream(self._driver)


class PyCudaStream:
    """A stream and its memory by way of PyCUDA; answers `CudaStream`."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._stream = driver.Stream()
        self._host: list[Any] = []
        self._device: list[Any] = []

    @property
    def handle(self) -> int:
        """The `CUstream`."""
        return int(self._stream.handle)

    def host_memory(self, size: int) -> HostMemory:
        """Page-locked memory; see `CudaStream.host_memory`."""
        array = self._driver.pagelocked_empty(size, "uint8")
        self._host.append(array)
        return HostMemory(array, array)

    def device_memory(self, size: int) -> DeviceMemory:
        """Memory of the GPU; see `CudaStream.device_memory`."""
        allocation = self._driver.mem_alloc(size)
        self._device.append(allocation)
        return DeviceMemory(int(allocation), size, allocation)

    def upload(self, target: DeviceMemory, source: HostMemory, size: int) -> None:
        """Queue a copy to the GPU; see `CudaStream.upload`."""
        self._driver.memcpy_htod_async(target.address, source.array[:size], self._stream)

    def download(self, target: HostMemory, source: DeviceMemory, size: int) -> None:
        """Queue a copy from the GPU; see `CudaStream.download`."""
        self._driver.memcpy_dtoh_async(target.array[:size], source.address, self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """The work itself: PyCUDA has no graphs."""
        return work

    def synchronize(self) -> None:
        """Wait until everything queued is done."""
        self._stream.synchronize()

    def close(self) -> None:
        """Wait, and let go of the memory and the stream."""
        self._stream.synchronize()
        for allocation in self._device:
            allocation.free()
        self._device, self._host, self._stream = [], [], None
