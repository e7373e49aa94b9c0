"""The progress of a build: done, rate, time left, failures; one line that stays."""

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["BuildProgress"]


class RateColumn(ProgressColumn):
    """LoRAs a minute since the start."""

    def render(self, task: Task) -> Text:
        """The rate so far, blank until something is done."""
        if not task.completed or not task.elapsed:
            return Text("")
        rate = (task.completed - task.fields["resumed"]) / task.elapsed * 60
        return Text(f"{rate:.0f} a minute")


class BuildProgress:
    """A bar on a console; as a context it starts and ends it."""

    def __init__(self, total: int, done: int, *, shown: bool, console: Console | None = None):
        self.failures, self.diverged = 0, 0
        self.problem = ""  # the last reason of a failure
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[trouble]}"),
            console=console or Console(stderr=True),
            disable=not shown,
        )
        self.task = self.bar.add_task(
            "LoRAs", total=total, completed=done, resumed=done, trouble="first group in the making"
        )

    def __enter__(self) -> "BuildProgress":
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def advance(self, made: int, *, failed: int = 0, diverged: int = 0) -> None:
        """Count LoRAs of a group that has ended."""
        self.failures += failed
        self.diverged += diverged
        trouble = f"{self.failures} failed, {self.diverged} diverged"
        self.bar.update(self.task, advance=made, trouble=trouble)
