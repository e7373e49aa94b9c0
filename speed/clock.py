"""A clock that waits for the device, and what it found: medians after warm-up.

A GPU works on after a call has returned, so the clock synchronises before it starts and before it stops.

On a machine that is shared with other work, wall time says how much of it one gets. A *shared* clock counts the
processor's time instead, on one thread, and divides it by the cores: as if all of them shared the work without
loss, which they do for neither an evaluation nor a prediction. What one core alone has to do is not divided.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median

import torch

from lorascope.io.processes import cores

__all__ = ["Clock"]


@dataclass(frozen=True)
class Clock:
    """Times calls on a device.

    Args:
        device: "cpu", "cuda" or "cuda:N".
        repeats: calls that count, after one that does not.
        patience: seconds (of wall time) after which no further call is begun; the first is always made.
        shared: count the processor's time of calls on one thread, see `threads`.
        spread: divide that by the cores.
    """

    device: str = "cpu"
    repeats: int = 9
    patience: float = 20.0
    shared: bool = False
    spread: bool = True

    def once(self, work: Callable[[], object]) -> float:
        """Seconds of one call."""
        self.wait()
        began = self.now()
        work()
        self.wait()
        return (self.now() - began) / self.cores

    def seconds(self, work: Callable[[], object]) -> float:
        """Median seconds of a call, after one that does not count.

        Example:
            >>> Clock(repeats=3).seconds(lambda: sum(range(1000))) > 0
            True
        """
        began = time.perf_counter()
        self.once(work)  # warms caches, allocators and kernels
        times: list[float] = []
        while not times or (
            len(times) < self.repeats and time.perf_counter() - began < self.patience
        ):
            times.append(self.once(work))
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

    @property
    def cores(self) -> int:
        """How many cores one call's time is divided by."""
        return len(cores()) if self.shared and self.spread else 1

    def on_one_core(self) -> "Clock":
        """The clock of what more cores do not make faster."""
        return replace(self, spread=False)

    @property
    def threads(self) -> tuple[int, ...]:
        """Numbers of threads that a call may be tried with."""
        return (1,) if self.shared else tuple(sorted({1, torch.get_num_threads()}))

    def now(self) -> float:
        """The time that is counted, in seconds."""
        return time.process_time() if self.shared else time.perf_counter()

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if torch.device(self.device).type == "cuda":
            torch.cuda.synchronize(self.device)
