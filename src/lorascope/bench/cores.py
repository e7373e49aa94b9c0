"""How many cores there are to work with, which a container or a batch system may have cut down."""

import os

__all__ = ["cores"]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
