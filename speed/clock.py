"""A clock that waits for the device, and what it found: medians after warm-up.

A GPU works on after a call has returned, so the clock synchronises before it starts and before it stops.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch

__all__ = ["Clock"]


@dataclass(frozen=True)
class Clock:
    """Times calls on a device.

    Args:
        device: "cpu", "cuda" or "cuda:N".
        repeats: calls that count, after one that does not.
        patience: seconds after which no further call is begun; the first is always made.
    """

    device: str = "cpu"
    repeats: int = 9
    patience: float = 20.0

    def once(self, work: Callable[[], object]) -> float:
        """Seconds of one call."""
        self.wait()
        began = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - began

    def seconds(self, work: Callable[[], object]) -> float:
        """Median seconds of a call, after one that does not count.

        Example:
            >>> Clock(repeats=3).seconds(lambda: sum(range(1000))) > 0
            True
        """
        spent = self.once(work)  # warms caches, allocators and kernels
        times: list[float] = []
        while not times or (len(times) < self.repeats and spent < self.patience):
            times.append(self.once(work))
            spent += times[-1]
        return median(times)

    def beside(self, works: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
        """Seconds of each of some calls, all of them in turn, round after round.

        A busy machine slows all alike, so that ratios within a round hold.
        """
        times: dict[str, list[float]] = {name: [] for name in works}
        for number in range(self.repeats + 1):
            for name, work in works.items():
                spent = self.once(work)
                if number:
                    times[name].append(spent)
        return times

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if torch.device(self.device).type == "cuda":
            torch.cuda.synchronize(self.device)
