"""What the processor can do."""

import os
import platform
import re
from pathlib import Path


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def name(path: str | Path = "/proc/cpuinfo") -> str:
    """Return the processor's name, where the system tells; else its kind."""
    found = re.search(r"^model name\s*: (.*)$", _text(path), re.M)
    return found[1].strip() if found else platform.processor()


def cpu_flags(path: str | Path = "/proc/cpuinfo") -> set[str]:
    """Return the processor's feature flags, a set of str; empty where the system does not tell.

    Linux has them in a line "flags" on x86, "Features" on ARM.
    """
    lines = _text(path).splitlines()
    return set(next((line.split() for line in lines if line.startswith(("flags", "Features"))), []))


def _text(path):
    try:
        return Path(path).read_text()
    except OSError:
        return ""
