"""Where lorascope keeps what it makes for itself: zoos, bases, compiled kernels."""

import os
from pathlib import Path

__all__ = ["home"]


def home() -> Path:
    """$LORASCOPE_HOME, by default ~/.cache/lorascope."""
    return Path(os.environ.get("LORASCOPE_HOME") or Path.home() / ".cache" / "lorascope")
