"""Run a benchmark: every model and control, on every target, with every seed, on the same splits.

    seed -> the salt of the split by group, the first weights, the order of the training rows

Runs are independent: they go to worker processes of one thread each, whose results the parent records as they
end. What ends with an error is recorded with its reason, never left out.
"""

import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorascope.bench.boosting import BOOSTING, boosting_scores
from lorascope.bench.results import Plan, Result, append_results, load_results
from lorascope.bench.workers import as_they_end, one_thread, run_bar
from lorascope.errors import DataError, LorascopeError
from lorascope.io.processes import cores
from lorascope.models.build import MODELS
from lorascope.predict.versions import versions
from lorascope.train.controls import control_scores, controls_of
from lorascope.train.data import LabelledLoRAs, from_zoo
from lorascope.train.fit import default_split, fit
from lorascope.train.splits import Split

if TYPE_CHECKING:
    from lorascope.io.shards import Zoo

#: Models that take longest go first, so that no process waits at the end for a long one.
LONGEST_FIRST = ("w2t", "transformer", "mvprobe", "deep_sets", "dense", "gl_net", "kernel_product")


@dataclass(frozen=True)
class Task:
    """One run that is to be made."""

    target: str
    model: str
    seed: int
    control: bool


def run_bench(
    data: "LabelledLoRAs | Zoo | Path | str",
    out: Path | str,
    *,
    targets: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    seeds: int | Sequence[int] = 3,
    processes: int | None = None,
    progress: bool = True,
) -> list[Result]:
    """Train and score models and controls; returns the results, which are also in `out/results.jsonl`.

    Runs that the folder already holds for the same data are not made again. By default all targets and all
    models are run, with seeds 0, 1, 2, in one process per core; `processes=1` runs in this process.
    Raises DataError for an unknown target or model; an error of a single run is recorded with the run.

    >>> run_bench("zoo", "bench", targets=["accuracy"], models=["gl_net"])  # doctest: +SKIP
    """
    labelled, ceilings = _open(data, targets)
    plan = _plan(labelled, targets, models, seeds, ceilings)
    out = Path(out)
    plan.save(out)
    version = versions()["lorascope"]
    names = {
        (plan.data[task.target], task.target, task.model, task.seed, version): task
        for task in _tasks(plan)
    }
    done = {result.key for result in load_results(out) if result.error is None}
    left = [task for name, task in names.items() if name not in done]
    bar = run_bar("runs", len(names), len(names) - len(left), _told, show=progress)
    with bar as advance:
        for result in _run_all(labelled, plan.data, left, processes):
            append_results(out, [result])
            advance(result)
    latest = {result.key: result for result in load_results(out) if result.key in names}
    return [latest[name] for name in names]


def run_task(data: LabelledLoRAs, digests: Mapping[str, str], task: Task) -> Result:
    """Make one run; an error that lorascope or torch raises becomes part of the result."""
    started = time.perf_counter()
    name: dict[str, Any] = {
        "data": digests[task.target],
        "target": task.target,
        "model": task.model,
        "seed": task.seed,
        "control": task.control,
        "versions": versions(),
    }
    try:
        found = _run_control(data, task) if task.control else _run_model(data, task)
    except (LorascopeError, RuntimeError) as error:  # torch's LinAlgError is a RuntimeError
        seconds = time.perf_counter() - started
        return Result(**name, seconds=seconds, error=f"{type(error).__name__}: {error}")
    return Result(**name, **found)


def _run_model(data: LabelledLoRAs, task: Task) -> dict[str, Any]:
    if task.model == BOOSTING:
        return _run_boosting(data, task)
    report = fit(data, task.target, model=task.model, seed=task.seed, trust=False).report
    metrics = report["metrics"]
    kept = {key: report[key] for key in ("rows", "parameters", "seconds")}
    return {"metrics": metrics["test"], "validation": metrics["validation"], **kept}


def _run_boosting(data: LabelledLoRAs, task: Task) -> dict[str, Any]:
    split = _split(data, task)
    metrics, validation, seconds = boosting_scores(data, task.target, split, seed=task.seed)
    rows = _counts(data, task, split)
    return {"metrics": metrics, "validation": validation, "rows": rows, "seconds": seconds}


def _run_control(data: LabelledLoRAs, task: Task) -> dict[str, Any]:
    split = _split(data, task)
    started = time.perf_counter()
    metrics = control_scores(task.model, data, task.target, split, seed=task.seed)
    seconds = time.perf_counter() - started
    return {"metrics": metrics, "rows": _counts(data, task, split), "seconds": seconds}


def _split(data: LabelledLoRAs, task: Task) -> Split:
    return default_split(data, task.seed).among(data.known(task.target)).check()


def _counts(data: LabelledLoRAs, task: Task, split: Split) -> dict[str, int]:
    return {
        "train": len(split.train),
        "validation": len(split.validation),
        "test": len(split.test),
        "without_label": len(data) - len(data.known(task.target)),
    }


def _open(
    data: "LabelledLoRAs | Zoo | Path | str", targets: Sequence[str] | None
) -> tuple[LabelledLoRAs, dict[str, Any]]:
    """The data in memory, and the ceilings of its labels where a zoo reports them."""
    if isinstance(data, LabelledLoRAs):
        return data, {}
    if isinstance(data, str | Path):
        from lorascope.io.shards import open_zoo

        data = open_zoo(data)
    found = data.report.get("ceilings", {})
    ceilings = {
        name: {key: float(value) for key, value in of.items() if isinstance(value, int | float)}
        for name, of in found.items()
        if isinstance(of, dict)
    }
    return from_zoo(data, targets), ceilings


def _plan(
    data: LabelledLoRAs,
    targets: Sequence[str] | None,
    models: Sequence[str] | None,
    seeds: int | Sequence[int],
    ceilings: dict[str, Any],
) -> Plan:
    names = list(data.targets) if targets is None else list(targets)
    chosen = list(MODELS) if models is None else list(models)
    known = [*MODELS, BOOSTING]
    if unknown := [name for name in chosen if name not in known]:
        raise DataError(
            f"Planning a benchmark: found the model {unknown[0]!r}, expected one of {', '.join(known)}."
        )
    numbers = range(seeds) if isinstance(seeds, int) else seeds
    if not names or not len(numbers):
        raise DataError(
            f"Planning a benchmark of {data.source}: found {len(names)} targets and {len(numbers)} seeds, "
            "expected at least one of each."
        )
    return Plan(
        source=data.source,
        data=data.digests(names),
        loras=len(data),
        targets=tuple(data.target(name) for name in names),
        models=tuple(chosen),
        controls=controls_of(data),
        seeds=tuple(numbers),
        ceilings={name: ceilings[name] for name in names if name in ceilings},
    )


def _tasks(plan: Plan) -> list[Task]:
    """All runs of a plan, the longest first."""

    def order(task: Task) -> int:
        listed = not task.control and task.model in LONGEST_FIRST
        return LONGEST_FIRST.index(task.model) if listed else len(LONGEST_FIRST)

    every = [(name, False) for name in plan.models] + [(name, True) for name in plan.controls]
    tasks = [
        Task(target.name, name, seed, control)
        for name, control in every
        for target in plan.targets
        for seed in plan.seeds
    ]
    return sorted(tasks, key=order)


def _run_all(
    data: LabelledLoRAs, digests: Mapping[str, str], tasks: Sequence[Task], processes: int | None
) -> Iterator[Result]:
    """The results as they end."""
    processes = min(processes or len(cores()), len(tasks))
    if processes <= 1:
        yield from (run_task(data, digests, task) for task in tasks)
        return
    # plain bytes need no shared memory
    given = pickle.dumps(data), dict(digests)
    doing = "Running a benchmark"
    yield from as_they_end(_work, tasks, processes, doing=doing, prepare=_start_worker, given=given)


_WORKER: dict[str, Any] = {}


def _start_worker(pickled: bytes, digests: dict[str, str]) -> None:
    """Load the data once per process, and keep to one thread."""
    one_thread()
    _WORKER.update(data=pickle.loads(pickled), digests=digests)


def _told(result: Result) -> str:
    return f"{result.model} on {result.target}, {result.seconds:.1f} s"


def _work(task: Task) -> Result:
    return run_task(_WORKER["data"], _WORKER["digests"], task)
