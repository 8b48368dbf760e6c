"""Whether there is a GPU here, for tests that need one and tests of what is said without one."""

from mlzsl.cli.errors import UsageError
from mlzsl.engines.tensorrt.cuda import find_gpu


def has_gpu() -> bool:
    """Whether cuda-core, a driver and a GPU are there."""
    try:
        find_gpu("a test")
    except UsageError:
        return False
    return True
