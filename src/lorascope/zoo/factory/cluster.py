"""The same tasks over a Ray cluster: workers come and go, a lost one's task is done elsewhere.

`run_on_ray` keeps the contract of `pool.run_tasks`: it yields (task, result or `Failure`). A worker
is a Ray actor of one core and one thread; it greets first (it prepares its base and says which
versions it has), then takes one task after another, so at most one task a worker is in flight.

What one task gives is a pure function of the task, so who did it, when, and after how many losses
leaves no trace in the zoo. Ray is an extra: nothing here imports it before it is asked for.
"""

import contextlib
import importlib
import logging
import os
import platform
import socket
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from typing import Any

import torch

from lorascope.errors import MissingExtraError, TrainingError
from lorascope.zoo.factory.pool import Failure

__all__ = ["run_on_ray"]

LIVES = 3  # a task that has cost so many workers is given up: it may be what kills them
KNOCK = 10.0  # seconds in which a cluster must answer
WAIT = 30.0  # seconds without news after which the crew is looked at again

Note = Callable[..., None]  # what happened, as in ZooWriter.log: event=..., and facts

log = logging.getLogger(__name__)


def run_on_ray(
    tasks: Iterable[Any],
    start: Callable[[], Callable[[Any], Any]],
    *,
    address: str | None = None,
    workers: int | None = None,
    gpus: float = 0,
    note: Note | None = None,
) -> Generator[tuple[Any, Any], None, None]:
    """Do tasks on a Ray cluster; yields (task, result or `Failure`) as they end.

    Args:
        tasks: picklable; taken one by one as workers become free.
        start: picklable; called once in each worker, gives the function that does a task.
        address: of the cluster; by default $RAY_ADDRESS, else this machine alone.
        workers: at most so many; by default one for each core (or share of a GPU) of the cluster.
        gpus: how much of a GPU each worker takes.
        note: is told of every worker that came, was lost or was refused.

    Raises:
        MissingExtraError: ray is not installed.
        TrainingError: there is no cluster at that address.
    """
    ray = _ray()
    with _connected(ray, address):
        crew = Crew(ray, start, workers, gpus, note or (lambda **_: None))
        try:
            yield from crew.share(Queue(tasks))
        finally:
            crew.dismiss()


def _ray() -> Any:
    # Ray would hide GPUs from workers that ask for none, and warns that it will stop doing so
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as missing:
        raise MissingExtraError("ray", "cluster", "building a zoo on a cluster") from missing


@contextlib.contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """Join the cluster, unless this process is in one already."""
    if ray.is_initialized():
        yield
        return
    try:
        _knock(address or os.environ.get("RAY_ADDRESS", ""))
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (OSError, ValueError, RuntimeError) as problem:
        raise TrainingError(
            f"joining the Ray cluster {address or 'of this machine'}: {problem}. Expected an address "
            "HOST:PORT, as 'ray start --head' prints it. Try 'ray status' on the head node"
        ) from problem
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """See whether anyone answers: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK).close()


def versions() -> dict[str, str]:
    """What must be the same on all machines, or numbers differ."""
    return {
        "lorascope": version("lorascope"),
        "torch": torch.__version__.split("+")[0],
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


class Server:
    """What lives in an actor: the life of a worker."""

    def __init__(self, start: Callable[[], Callable[[Any], Any]]):
        torch.set_num_threads(1)
        self.start = start
        self.work: Callable[[Any], Any] | None = None
        self.broken = Failure("this worker has not been greeted")

    def greet(self) -> dict[str, Any]:
        """Prepare, and say who this is; what goes wrong is the answer to every task."""
        try:
            self.work = self.start()
        except Exception:
            self.broken = Failure(traceback.format_exc())
        return {"host": platform.node(), "process": os.getpid(), "versions": versions()}

    def do(self, task: Any) -> Any:
        """The result of a task, or why there is none."""
        if self.work is None:
            return self.broken
        try:
            return self.work(task)
        except Exception:
            return Failure(traceback.format_exc())


@dataclass(eq=False)
class Trial:
    """A task and how many workers it has cost."""

    task: Any
    lost: int = 0


@dataclass(eq=False)
class Hand:
    """A worker as the driver sees it."""

    actor: Any
    answer: Any  # a reference to what it will answer next; None while it is idle
    host: str = "?"  # known once it has greeted
    trial: Trial | None = None  # None while it greets or is idle


class Queue:
    """Tasks that wait: first those that lost workers left behind, then new ones as they are needed."""

    def __init__(self, tasks: Iterable[Any]):
        self.fresh = iter(tasks)
        self.waiting: deque[Trial] = deque()

    def __bool__(self) -> bool:
        if not self.waiting:
            self.waiting.extend(Trial(task) for task in islice(self.fresh, 1))
        return bool(self.waiting)

    def take(self) -> Trial:
        """The next task of a queue that is not empty."""
        return self.waiting.popleft()


class Crew:
    """The workers of a run."""

    def __init__(
        self,
        ray: Any,
        start: Callable[[], Callable[[Any], Any]],
        most: int | None,
        gpus: float,
        note: Note,
    ):
        self.ray, self.most, self.gpus, self.note = ray, most, gpus, note
        self.make = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(Server)
        self.start = ray.put(start)
        self.hands: list[Hand] = []
        self.refused: list[str] = []  # why workers are not used; their places stay empty
        self.stillborn = 0  # workers in a row that ended before they greeted
        self.patient = True  # nobody was told yet that the cluster keeps us waiting

    def share(self, queue: Queue) -> Iterator[tuple[Any, Any]]:
        """Give tasks to whoever is idle, until each has a result or is given up."""
        while True:
            self._hire(queue)
            self._assign(queue)
            if not queue and all(hand.trial is None for hand in self.hands):
                return
            if not self.hands:
                yield queue.take().task, Failure("no worker is left: " + "; ".join(self.refused))
            for hand in self._heard():
                yield from self._hear(hand, queue)

    def dismiss(self) -> None:
        """End all workers, busy or not."""
        for hand in self.hands:
            self.ray.kill(hand.actor)
        self.hands = []

    def _hire(self, queue: Queue) -> None:
        """As many workers as the cluster has room for now; nodes that join later are seen later."""
        room = self.ray.cluster_resources()
        places = int(room.get("GPU", 0) / self.gpus if self.gpus else room.get("CPU", 0))
        wanted = max(1, places if self.most is None else min(places, self.most))
        while queue and len(self.hands) < wanted - len(self.refused):
            actor = self.make.remote(self.start)
            self.hands.append(Hand(actor, actor.greet.remote()))

    def _assign(self, queue: Queue) -> None:
        for hand in self.hands:
            if hand.answer is None and queue:
                hand.trial = queue.take()
                hand.answer = hand.actor.do.remote(hand.trial.task)

    def _heard(self) -> list[Hand]:
        """Who has answered; waits for one, and looks at the crew again where none does."""
        asked = {hand.answer: hand for hand in self.hands if hand.answer is not None}
        if not asked:
            return []
        answered, _ = self.ray.wait(list(asked), num_returns=1, timeout=WAIT)
        if not answered and self.patient and all(hand.host == "?" for hand in self.hands):
            self.patient = False
            log.warning(
                "building on Ray: no worker has started in %.0f s. Going on waiting for a free core; "
                "'ray status' says what the cluster does",
                WAIT,
            )
        return [asked[answer] for answer in answered]

    def _hear(self, hand: Hand, queue: Queue) -> Iterator[tuple[Any, Any]]:
        answer, trial = hand.answer, hand.trial
        hand.answer, hand.trial = None, None
        try:
            said = self.ray.get(answer)
        except self.ray.exceptions.RayTaskError as problem:  # it lives and cannot
            said = Failure(str(problem))
        except self.ray.exceptions.RayError as problem:  # it, its node or its answer is gone
            self._lose(hand, str(problem))
            if trial is None:
                return
            trial.lost += 1
            if trial.lost < LIVES:
                queue.waiting.append(trial)
            else:
                lost = f"{trial.lost} workers were lost on this task, the last: {problem}"
                yield trial.task, Failure(lost)
            return
        if trial is None:
            self._welcome(hand, said)
        else:
            yield trial.task, said

    def _welcome(self, hand: Hand, said: Any) -> None:
        """Take on a worker that has greeted, if it computes what this machine would."""
        found = said.message if isinstance(said, Failure) else said["versions"]
        if found == versions():
            hand.host, self.stillborn = said["host"], 0
            self.note(event="worker", host=hand.host, process=said["process"])
            return
        self._refuse(hand, f"found {found}, expected {versions()} as on the driver")

    def _refuse(self, hand: Hand, problem: str) -> None:
        self.refused.append(problem)
        self._remove(hand)
        self.note(event="worker refused", problem=problem)
        log.warning(
            "building on Ray: a worker is not used: %s. Try the same lorascope, torch and Python on "
            "every node",
            problem,
        )

    def _lose(self, hand: Hand, problem: str) -> None:
        """A lost worker is replaced where the cluster has room, unless it never lived."""
        self.stillborn += hand.host == "?"
        if self.stillborn >= LIVES:
            self.stillborn = 0
            self._refuse(hand, problem)
            return
        self._remove(hand)
        self.note(event="worker lost", host=hand.host, problem=problem)
        log.warning("building on Ray: a worker on %s was lost; its task is done again", hand.host)

    def _remove(self, hand: Hand) -> None:
        self.hands.remove(hand)
        with contextlib.suppress(self.ray.exceptions.RayError):
            self.ray.kill(hand.actor)  # it may be out of reach only
