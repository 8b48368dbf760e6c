"""Failures of the machine while photos are read: which errors they are, and how often a read is tried again."""

import contextlib
import errno
import time
from collections.abc import Callable
from typing import TypeVar

from mlzsl.cli.errors import reason_of
from mlzsl.imaging.errors import TransientReadError

FAULTS_OF_THE_FILE = (  # what the operating system says of a file itself; its other errors are the machine's
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EINVAL, errno.EILSEQ, errno.ENXIO, errno.EFBIG, errno.EOVERFLOW),
)
RETRY_DELAYS = (0.5, 2.0)  # s, before the second and the third try

_T = TypeVar("_T")


def transient_error(error: BaseException) -> TransientReadError | None:
    """The failure of the machine that an exception stands for; None if it is the file's fault."""
    if isinstance(error, TransientReadError):
        return error
    if isinstance(error, OSError) and error.errno:  # Pillow's own errors have no number
        return None if error.errno in FAULTS_OF_THE_FILE else TransientReadError(reason_of(error))
    memory = isinstance(error, MemoryError) or "out of memory" in str(error).lower()
    return TransientReadError("not enough memory") if memory else None


def retried(read: Callable[[], _T]) -> _T:
    """The result of `read`, which is called again after each of `RETRY_DELAYS` while the machine fails.

    Raises:
        TransientReadError: the machine failed each time.
    """
    for delay in RETRY_DELAYS:
        with contextlib.suppress(TransientReadError):
            return read()
        time.sleep(delay)  # outside of the block, whose exception keeps memory
    return read()
