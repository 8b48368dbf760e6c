"""A slot of a plan: a CUDA stream with its own memory, and a CUDA graph for each frequent batch size."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from mlzsl.cli.errors import FailureError
from mlzsl.engines.artifact.modelfile import Images, Scores
from mlzsl.engines.artifact.plan_manifest import BatchProfile
from mlzsl.engines.tensorrt.batches import Slot
from mlzsl.engines.tensorrt.cuda import CudaStream, DeviceMemory

# Each graph has an execution context of its own; a job has one batch size and a last, smaller one.
MOST_GRAPHS = 4
BYTES_PER_SCORE = 4  # float32

MakeContext = Callable[[DeviceMemory | None], Any]  # activation memory -> the library's `IExecutionContext`


class PlanSlot(Slot):
    """Runs one batch of the profile at a time."""

    def __init__(
        self,
        stream: CudaStream,
        make_context: MakeContext,
        batch: BatchProfile,
        size: int,
        labels: int,
        activation_bytes: int,
        graphs: bool,
    ) -> None:
        """Allocate memory for the largest batch.

        Args:
            stream: the slot's own.
            make_context: makes execution contexts of the plan.
            batch: the plan's profile.
            size: S, the side of an image in pixels.
            labels: L, scores per image.
            activation_bytes: memory that the slot's contexts share, one running at a time; 0 where each has its own.
            graphs: whether to capture CUDA graphs.
        """
        self._stream, self._make_context, self._graphs_wanted = stream, make_context, graphs
        self._batch, self._size, self._labels = batch, size, labels
        self._image_bytes = size * size * 3
        self._host_images = stream.host_memory(batch.max * self._image_bytes)
        self._host_scores = stream.host_memory(batch.max * labels * BYTES_PER_SCORE)
        self._images = stream.device_memory(batch.max * self._image_bytes)
        self._scores = stream.device_memory(batch.max * labels * BYTES_PER_SCORE)
        self._activation = stream.device_memory(activation_bytes) if activation_bytes else None
        self._context = self._new_context()
        self._contexts = [self._context]
        self._graphs: dict[int, Callable[[], None]] = {}  # by rows
        self._seen: set[int] = set()
        self._count = 0

    def start(self, images: Images) -> None:
        """Queue a batch, uint8 [n, S, S, 3] with n up to the profile's maximum."""
        self._count = len(images)
        rows = max(self._count, self._batch.min)
        pixels = self._host_images.array[: rows * self._image_bytes].reshape(rows, self._size, self._size, 3)
        pixels[: self._count] = images
        pixels[self._count :] = 0  # padding up to the profile's minimum
        self._work(rows)()

    def finish(self) -> Scores:
        """Wait for the batch; float32 [n, L], a copy."""
        self._stream.synchronize()
        size = self._count * self._labels * BYTES_PER_SCORE
        return self._host_scores.array[:size].view(np.float32).reshape(self._count, self._labels).copy()

    def close(self) -> None:
        """Free contexts, graphs and memory."""
        self._stream.synchronize()
        self._graphs, self._contexts, self._context = {}, [], None
        self._stream.close()

    def _work(self, rows: int) -> Callable[[], None]:
        """A function that queues a batch of `rows`: its graph, captured when the size comes a second time."""
        if self._graphs_wanted and rows in self._seen - self._graphs.keys() and len(self._graphs) < MOST_GRAPHS:
            self._graphs[rows] = self._captured(rows)
        if rows in self._graphs:
            return self._graphs[rows]
        self._seen.add(rows)
        self._bind(self._context, rows)
        return partial(self._queue, self._context, rows)

    def _captured(self, rows: int) -> Callable[[], None]:
        context = self._new_context()
        self._contexts.append(context)
        self._bind(context, rows)
        # The first run of a context initializes its state for a shape, which a capture does not allow.
        self._queue(context, rows)
        self._stream.synchronize()
        return self._stream.capture(partial(self._queue, context, rows))

    def _queue(self, context: Any, rows: int) -> None:
        self._stream.upload(self._images, self._host_images, rows * self._image_bytes)
        if not context.execute_async_v3(self._stream.handle):
            raise FailureError("the GPU refused a batch without a reason; try a smaller batch.")
        self._stream.download(self._host_scores, self._scores, rows * self._labels * BYTES_PER_SCORE)

    def _bind(self, context: Any, rows: int) -> None:
        if not context.set_input_shape("images", (rows, self._size, self._size, 3)):
            raise FailureError(f"the plan refuses a batch of {rows}, which its manifest allows; rebuild it.")

    def _new_context(self) -> Any:
        context = self._make_context(self._activation)
        if context is None:
            raise FailureError("the GPU has too little free memory for the plan; close other programs that use it.")
        context.set_tensor_address("images", self._images.address)
        context.set_tensor_address("scores", self._scores.address)
        return context
