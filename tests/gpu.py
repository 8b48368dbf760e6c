"""Whether this machine has a GPU, for tests that need one and tests of errors without one."""

from mlzsl.cli.errors import UsageError
from mlzsl.engines.tensorrt.cuda import open_cuda


def has_gpu() -> bool:
    """Whether cuda-core, a driver and a GPU are available."""
    try:
        open_cuda("a test")
    except UsageError:
        return False
    return True
