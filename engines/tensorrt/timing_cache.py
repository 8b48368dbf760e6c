"""The timing cache: kernel times that TensorRT measured, kept so that the next build need not measure them again."""

import re
from pathlib import Path
from typing import Any

from mlzsl.cli.outputs import written_atomically
from mlzsl.engines.tensorrt.library import Library

DEFAULT_FOLDER = Path("mlzsl-cache")


class TimingCache:
    """The cache file of one GPU model and one version of the library, attached to one builder configuration."""

    def __init__(self, library: Library, config: Any, folder: Path | None, gpu: str) -> None:
        """Read what is kept for `gpu`; the library starts afresh where there is nothing that it accepts."""
        names = f"{library.key}-{library.version}-{gpu}"
        self.path = (folder or DEFAULT_FOLDER) / f"timing-{re.sub(r'[^A-Za-z0-9.]+', '-', names)}.cache"
        kept = self.path.read_bytes() if self.path.is_file() else b""
        self._cache = config.create_timing_cache(kept)
        if not config.set_timing_cache(self._cache, False):  # times of another GPU, CUDA or version
            self._cache = config.create_timing_cache(b"")
            config.set_timing_cache(self._cache, False)

    def keep(self) -> None:
        """Write back what was there and what the build measured.

        Raises:
            FailureError: the file system refuses.
        """
        with written_atomically(self.path) as temporary:
            temporary.write_bytes(bytes(self._cache.serialize()))
