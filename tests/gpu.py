"""Whether this machine has a GPU, for tests that need one and tests of errors without one."""

from mlzsl.cli.errors import UsageError
from mlzsl.engines.tensorrt.cuda import find_gpu


def has_gpu() -> bool:
    """Whether cuda-core, a driver and a GPU are available."""
    try:
        find_gpu("a test")
    except UsageError:
        return False
    return True
