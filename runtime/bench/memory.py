"""How much memory the process holds."""

import os
import resource
import sys
from pathlib import Path

STATM = Path("/proc/self/statm")  # Linux only


def resident_bytes() -> int | None:
    """The process's resident memory now; None where the system does not tell it."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def peak_resident_bytes() -> int:
    """The most resident memory that the process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
