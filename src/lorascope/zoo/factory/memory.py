"""The memory that this process and all that it started hold together, watched while they work."""

import os
import threading
from collections import defaultdict
from pathlib import Path
from types import TracebackType

__all__ = ["MemoryWatch", "resident_bytes"]

PROC = Path("/proc")
INTERVAL = 0.5  # seconds between two looks


class MemoryWatch:
    """The largest sum of resident memory while the context is open; 0 where the system has no /proc.

    Example:
        >>> with MemoryWatch() as watch:
        ...     filled = bytearray(10)
        >>> watch.peak_bytes >= 0
        True
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ended.wait(INTERVAL):
            self._look()

    def _look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, resident_bytes(os.getpid()))


def resident_bytes(pid: int) -> int:
    """Resident bytes of a process and its descendants; what they share counts for each."""
    children, pages = defaultdict(list), {}
    for folder in PROC.glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            pages[int(folder.name)] = int((folder / "statm").read_text().split()[1])
        except (OSError, IndexError):  # it has ended meanwhile
            continue
        children[int(parent)].append(int(folder.name))
    total, queue = 0, [pid]
    while queue:
        one = queue.pop()
        total += pages.get(one, 0)
        queue += children[one]
    return total * os.sysconf("SC_PAGE_SIZE")
