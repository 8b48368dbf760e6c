"""CUDA by PyCUDA, for programs that already use it: plans run in their current context, without CUDA graphs."""

import importlib
from collections.abc import Callable
from typing import Any

from mlzsl.cli.errors import UsageError, reason_of
from mlzsl.engines.tensorrt.cuda import Cuda, CudaStream, DeviceMemory, Gpu, HostMemory


def open_pycuda(purpose: str) -> "PyCuda":
    """Use the CUDA context of the calling thread.

    Args:
        purpose: what needs a GPU; begins the sentence of an error.

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
            f"{purpose} this thread has no CUDA context of PyCUDA ({reason_of(error)}); "
            "make one first, such as with `import pycuda.autoprimaryctx`."
        ) from error
    version = driver.get_driver_version()  # 13000 for CUDA 13.0
    capability = ".".join(map(str, device.compute_capability()))
    return PyCuda(driver, Gpu(device.name(), capability, f"{version // 1000}.{version % 1000 // 10}"))


class PyCuda(Cuda):
    """The program's own CUDA context."""

    def __init__(self, driver: Any, gpu: Gpu) -> None:
        self.gpu, self.errors = gpu, (driver.Error,)
        self._driver = driver

    def activate(self) -> None:
        """Nothing: the program makes its context current."""

    def stream(self) -> "PyCudaStream":
        return PyCudaStream(self._driver)


class PyCudaStream(CudaStream):
    """A stream and its memory, by PyCUDA."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._stream = driver.Stream()
        self._host: list[Any] = []
        self._device: list[Any] = []

    @property
    def handle(self) -> int:
        return int(self._stream.handle)

    def host_memory(self, size: int) -> HostMemory:
        array = self._driver.pagelocked_empty(size, "uint8")
        self._host.append(array)
        return HostMemory(array, array)

    def device_memory(self, size: int) -> DeviceMemory:
        allocation = self._driver.mem_alloc(size)
        self._device.append(allocation)
        return DeviceMemory(int(allocation), size, allocation)

    def upload(self, target: DeviceMemory, source: HostMemory, size: int) -> None:
        self._driver.memcpy_htod_async(target.address, source.array[:size], self._stream)

    def download(self, target: HostMemory, source: DeviceMemory, size: int) -> None:
        self._driver.memcpy_dtoh_async(target.array[:size], source.address, self._stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """The function itself: PyCUDA has no graphs."""
        return work

    def synchronize(self) -> None:
        self._stream.synchronize()

    def close(self) -> None:
        """Wait, and free memory and stream."""
        self._stream.synchronize()
        for allocation in self._device:
            allocation.free()
        self._device, self._host, self._stream = [], [], None
