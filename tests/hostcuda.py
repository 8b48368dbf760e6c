"""CUDA emulated on the host, for tests without a GPU.

`HostCuda` implements `tensorrt.cuda.Cuda`: queued work runs at `synchronize`, and a graph repeats the calls of its
capture with the same addresses. `Context` has the interface of the libraries' execution contexts and computes the tiny
model's scores by its formulas.
"""

import ctypes
from collections.abc import Callable

import numpy as np
from tinymodel import LABELS, SIZE, reference_scores

from mlzsl.engines.tensorrt.cuda import DeviceMemory, Gpu, HostMemory

STREAMS: dict[int, "HostStream"] = {}


class HostCuda:
    """Implements `Cuda`."""

    gpu = Gpu("host", "8.9", "13.0")
    errors = (MemoryError,)

    def activate(self) -> None:
        pass

    def stream(self) -> "HostStream":
        return HostStream()


class HostStream:
    """Implements `CudaStream`; `launched` counts the replays of graphs."""

    def __init__(self) -> None:
        self.handle = len(STREAMS) + 1
        STREAMS[self.handle] = self
        self.queue: list[Callable[[], None]] = []
        self.launched = 0
        self.closed = False
        self.kept: list[np.ndarray] = []

    def host_memory(self, size: int) -> HostMemory:
        array = np.full(size, 0xAB, np.uint8)
        self.kept.append(array)
        return HostMemory(array, array)

    def device_memory(self, size: int) -> DeviceMemory:
        array = np.full(size, 0xCD, np.uint8)
        self.kept.append(array)
        return DeviceMemory(array.ctypes.data, size, array)

    def upload(self, target: DeviceMemory, source: HostMemory, size: int) -> None:
        assert size <= target.size
        self.queue.append(lambda: ctypes.memmove(target.address, source.array[:size].ctypes.data, size))

    def download(self, target: HostMemory, source: DeviceMemory, size: int) -> None:
        assert size <= source.size
        self.queue.append(lambda: ctypes.memmove(target.array[:size].ctypes.data, source.address, size))

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        assert not self.queue, "a capture begins on an idle stream"
        work()
        captured, self.queue = self.queue, []

        def launch() -> None:
            self.launched += 1
            self.queue.extend(captured)

        return launch

    def synchronize(self) -> None:
        waiting, self.queue = self.queue, []
        for do in waiting:
            do()

    def close(self) -> None:
        self.synchronize()
        self.closed = True


class Context:
    """An execution context of the tiny model's plan."""

    def __init__(self, largest: int = 10**6) -> None:
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()
        self.largest = largest
        self.ran = 0

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "images"
        self.shape = shape
        return shape[0] <= self.largest

    def execute_async_v3(self, handle: int) -> bool:
        rows, images, scores = self.shape[0], self.addresses["images"], self.addresses["scores"]

        def compute() -> None:
            self.ran += 1
            size = rows * SIZE * SIZE * 3
            pixels = np.frombuffer(ctypes.string_at(images, size), np.uint8).reshape(self.shape)
            result = reference_scores(pixels).astype(np.float32)
            ctypes.memmove(scores, result.ctypes.data, rows * len(LABELS) * 4)

        STREAMS[handle].queue.append(compute)
        return True
