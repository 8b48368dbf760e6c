"""An engine in virtual time: what is measured of it has an answer that can be written down."""

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from mlzsl.engines.engine import ExecutionInfo


class VirtualEngine:
    """As many servers as batches in flight, each takes `fixed` seconds a batch and `each` a picture.

    It pulls, waits and starts in the order in which real engines do; `clock` is its time.
    """

    def __init__(self, manifest, in_flight: int, fixed: float, each: float) -> None:
        self.manifest = manifest
        self.execution = ExecutionInfo("virtual", "1", "CPU", "none", "fp32")
        self.in_flight = in_flight
        self._fixed, self._each, self._now = fixed, each, 0.0

    def clock(self) -> float:
        return self._now

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        started: deque[tuple[float, np.ndarray]] = deque()

        def finish() -> np.ndarray:
            ends, images = started.popleft()
            self._now = max(self._now, ends)
            return np.zeros((len(images), len(self.manifest.labels)), np.float32)

        for images in batches:
            if len(started) == self.in_flight:
                yield finish()
            started.append((self._now + self._fixed + self._each * len(images), images))
        while started:
            yield finish()
