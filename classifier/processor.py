"""What the processor can do."""

import os
from pathlib import Path


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_flags(path: str | Path = "/proc/cpuinfo") -> set[str]:
    """Return the processor's feature flags, a set of str; empty where the system does not tell.

    Linux has them in a line "flags" on x86, "Features" on ARM.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.split() for line in lines if line.startswith(("flags", "Features"))), []))
