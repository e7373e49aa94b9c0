"""Build a zoo: groups of LoRAs are finetuned and labelled in worker processes, a shard for each.

Only whole shards count: a build that was killed goes on where it stopped and ends with the bytes
of an undisturbed one. Every failure is written to `build.jsonl`; the same call again retries it.
"""

import contextlib
import functools
import logging
import math
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import torch
from rich.console import Console

from lorascope.core.lora import LoRA
from lorascope.errors import DataError, FileError, TrainingError
from lorascope.io.processes import cores
from lorascope.io.shard_writer import ZooWriter
from lorascope.io.shards import Zoo, open_zoo, shard_path
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.fitted import Fitted
from lorascope.zoo.engine.grouping import PER_LANE
from lorascope.zoo.engine.protocol import Engine
from lorascope.zoo.factory.cluster import run_on_ray
from lorascope.zoo.factory.family import Family, engine_of, place_family, skipped_of, spec_of
from lorascope.zoo.factory.machine import machine, now
from lorascope.zoo.factory.plan import Group, counts_of, plan_zoo, set_apart
from lorascope.zoo.factory.pool import Failure, run_tasks
from lorascope.zoo.factory.progress import BuildProgress
from lorascope.zoo.factory.recipe import recipe_of, usual_dtype, zoo_folder

log = logging.getLogger(__name__)

__all__ = ["Made", "build_zoo", "make_group"]

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Made:
    """What a worker hands back for a group."""

    loras: list[LoRA]
    rows: list[dict[str, Any]]
    seconds: dict[str, float]
    failed: Mapping[int, str] = field(default_factory=dict)  # whose job failed, and why
    # what was left out of whose data
    skipped: Mapping[int, Sequence[str]] = field(default_factory=dict)


def build_zoo(
    family: Family,
    count: int,
    out: str | Path | None = None,
    *,
    processes: int | None = None,
    dtype: torch.dtype | None = None,
    compile: bool = True,
    slots: int | None = None,
    device: str = "cpu",
    cluster: Literal["ray"] | None = None,
    address: str | None = None,
    progress: bool = True,
    console: Console | None = None,
) -> Zoo:
    """Build a zoo of `count` LoRAs, or what is missing of it.

    Args:
        out: the folder; by default one under $LORASCOPE_HOME, named after the recipe.
        processes: workers, one pinned to each core (default: as many as cores); 0 uses none, the default
            on a GPU.
        dtype: of the base (default: `usual_dtype` of the device). Part of the recipe.
        compile: use the kernels in C where a C compiler works.
        slots: how many batches train at once (default: the engine's). Part of the recipe; a GPU whose
            memory they exceed trains half as many at once, as often as it takes.
        device: what finetunes: "cpu", or "cuda" or "cuda:N". What is random is drawn on the CPU, so that
            recipes hold on both. With `cluster` each worker takes one GPU; this machine needs none.
        cluster: "ray" spreads the groups over a Ray cluster; `processes` is then by default as many as
            the cluster has cores.
        address: of the cluster (see `cluster.run_on_ray`).
        progress: show a bar on `console` (standard error).

    Raises:
        DataError: the count is not positive.
        FileError: the folder holds something else, or a zoo of another recipe; or a file cannot be written
            (the disk is full): the same call goes on.
        TrainingError: every group failed.
    """
    if count < 1:
        raise DataError(f"building a zoo: found the count {count}, expected at least 1")
    where = usable(device) if cluster is None else of_workers(device)
    dtype, slots = dtype or usual_dtype(where), slots or engine_of(family).slots
    recipe = recipe_of(family, dtype=dtype, slots=slots)
    writer = ZooWriter(Path(out) if out is not None else zoo_folder(recipe), recipe)
    counts = counts_of(writer.path, count)
    per_lane = int(recipe["engine"].get("per_lane", PER_LANE))
    groups = plan_zoo(family, writer.path, counts, slots, writer.has_shard, per_lane)
    waiting = [group for group in groups if group.problem]
    missing = [g for g in groups if not g.problem and not writer.has_shard(g.number)]
    if not missing and _is_whole(writer.path, counts[-1]):
        return open_zoo(writer.path)
    # kernels are compiled for the processor; on a GPU torch's own are used
    compiled = compile and where.type == "cpu" and bool(missing) and engine_of(family).compiles()
    exact_steps = int(recipe["engine"].get("exact_steps", 0))
    start = functools.partial(start_work, family, dtype, compiled, slots, where, exact_steps)
    if where.type != "cpu" and cluster is None and processes is None:
        processes = 0
    run = _runner(writer, cluster, address, processes, len(missing), int(where.type != "cpu"))
    runs_on = machine(processes, cluster, where, compiled=compiled)
    lost = [Group(g.number, _unmade(writer, g), g.problem) for g in waiting]
    left = _size(missing) + _size(lost)
    writer.log(event="start", count=counts[-1], missing=left, **runs_on)
    bar = BuildProgress(counts[-1], counts[-1] - left, shown=progress, console=console)
    for group in lost:
        _fail(writer, group.number, group.indices, group.problem, bar)
    tasks = run(missing, start)
    with bar, contextlib.closing(tasks):
        try:
            for group, made in tasks:
                _keep(writer, group, made, bar)
        except KeyboardInterrupt:
            with contextlib.suppress(FileError):  # a full disk: the user still stopped it
                writer.log(event="stopped", time=now())
            raise
    return _finish(writer, family, bar)


def _is_whole(folder: Path, count: int) -> bool:
    """Whether the index names every LoRA and the report is there: what a build does last."""
    if not (folder / "index.parquet").is_file() or not (folder / "report.json").is_file():
        return False
    return len(open_zoo(folder)) == count


def _size(groups: list[Group]) -> int:
    return sum(len(group.indices) for group in groups)


def _runner(
    writer: ZooWriter,
    cluster: str | None,
    address: str | None,
    processes: int | None,
    tasks: int,
    gpus: int,
) -> Callable[..., Generator[tuple[Any, Any], None, None]]:
    """What does the tasks: processes of this machine, or a cluster."""
    if cluster is None:
        count = len(cores()) if processes is None else processes
        return functools.partial(run_tasks, processes=min(count, tasks))
    if cluster != "ray":
        raise DataError(f"building a zoo: found the cluster {cluster!r}, expected 'ray' or None")
    workers = tasks if processes is None else min(processes, tasks)
    return functools.partial(
        run_on_ray, address=address, workers=workers, gpus=gpus, note=writer.log
    )


def _keep(writer: ZooWriter, group: Group, made: Made | Failure, bar: BuildProgress) -> None:
    if isinstance(made, Failure):
        _fail(writer, group.number, group.indices, made.message, bar)
        return
    for index, problem in made.failed.items():
        _fail(writer, group.number, (index,), problem, bar)
    if made.failed:
        set_apart(writer.path, list(made.failed))  # before the shard, which is whole without them
    writer.add_shard(group.number, made.loras, made.rows)
    diverged = [row["id"] for row in made.rows if row["diverged"]]
    writer.log(event="shard", shard=group.number, size=len(made.rows), seconds=made.seconds)
    if diverged:
        writer.log(event="diverged", shard=group.number, ids=diverged)
    for index, problems in made.skipped.items():
        writer.log(event="skipped", shard=group.number, ids=[index], problems=list(problems))
    bar.advance(len(made.rows), diverged=len(diverged))


def _fail(
    writer: ZooWriter, shard: int, indices: Sequence[int], problem: str, bar: BuildProgress
) -> None:
    writer.log(event="failed", shard=shard, ids=list(indices), problem=problem)
    bar.advance(0, failed=len(indices))
    bar.problem = problem


def _unmade(writer: ZooWriter, group: Group) -> tuple[int, ...]:
    """The LoRAs of a part of the zoo that cannot be planned and are in none of its shards."""
    there: set[int] = set()
    for number in range(group.indices[0], group.indices[-1] + 1):
        if writer.has_shard(number):
            rows = shard_path(writer.path, number).with_suffix(".parquet")
            there.update(pq.read_table(rows, columns=["id"]).column("id").to_pylist())
    return tuple(index for index in group.indices if index not in there)


def _finish(writer: ZooWriter, family: Family, bar: BuildProgress) -> Zoo:
    if bar.failures:
        log.warning(
            "building the zoo %s: %d LoRAs failed and are left out. The reasons are in build.jsonl. "
            "Try the same call again: it keeps what succeeded and retries these",
            writer.path,
            bar.failures,
        )
    if bar.failures and not any(writer.path.glob("shards/*.parquet")):
        raise TrainingError(
            f"building the zoo {writer.path}: every LoRA failed, the last because of\n{bar.problem}"
        )
    zoo = writer.finish()
    report = family.report(zoo.index)
    writer.log(event="end", size=len(zoo), time=now())
    return writer.finish(report)


def start_work(
    family: Family,
    dtype: torch.dtype,
    compiled: bool,
    slots: int,
    device: torch.device = CPU,
    exact_steps: int = 0,
) -> Callable[[Group], Made]:
    """Prepare a worker: load the base once; the answer makes one group after another."""
    base = engine_of(family).load(family.base_folder, dtype, compiled, device, exact_steps)
    place_family(family, device)
    return functools.partial(make_group, base, family, slots=slots)


def _known(value: Any) -> Any:
    """A label that is no number (of a diverged adapter) is missing."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def make_group(base: Any, family: Family, group: Group, *, slots: int) -> Made:
    """Finetune and label the LoRAs of one group; it is made without those whose job fails.

    Raises:
        Exception: what the last job raised, where every one failed.
    """
    began = time.perf_counter()
    drawn_jobs, failed = _jobs(family, group.indices)
    indices, jobs = tuple(drawn_jobs), list(drawn_jobs.values())
    drawn = time.perf_counter()
    specs = [spec_of(family, i) for i in indices]
    fitted = _fit(engine_of(family), base, specs, jobs, slots)
    trained = time.perf_counter()
    labels = family.evaluate(base, fitted, indices)
    seconds = {
        "draw": drawn - began,
        "fit": trained - drawn,
        "evaluate": time.perf_counter() - trained,
    }
    rows = [
        {
            "id": index,
            "seed": job.seed,
            "group": family.group(index),
            "diverged": not bool(fitted.finite[i]),
            **{f"hyper:{name}": value for name, value in family.hyper(index).items()},
            **{f"label:{name}": _known(value) for name, value in labels[i].items()},
        }
        for i, (index, job) in enumerate(zip(indices, jobs, strict=True))
    ]
    identity = family.base_folder.name
    loras = [fitted.to_lora(i, base=identity) for i in range(len(fitted))]
    spent = {name: round(value, 3) for name, value in seconds.items()}
    skipped = {i: told for i in indices if (told := skipped_of(family, i))}
    return Made(loras, rows, spent, failed, skipped)


def _fit(
    engine: Engine, base: Any, specs: Sequence[AdapterSpec], jobs: Sequence[Any], slots: int
) -> Fitted:
    """Adapters of all jobs; fewer at once where the memory of a GPU does not hold so many."""
    while True:
        try:
            return engine.fit(base, specs, jobs, slots)
        except torch.OutOfMemoryError:
            if slots == 1:
                raise
        slots //= 2
        torch.cuda.empty_cache()
        log.warning("finetuning: the GPU's memory is full. Going on with %d slots at once", slots)


def usable(name: str) -> torch.device:
    """The device of a name. Raises DataError for one that torch does not know or that is not there."""
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError(f"{device.type} lacks float64 or was never tried")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as problem:  # torch raises either for a missing GPU
        raise DataError(
            f"working on the device {name!r}: torch cannot use it here "
            f"({str(problem).splitlines()[0]}). Expected 'cpu', 'cuda' or 'cuda:N'. Try 'cpu', or a torch "
            "built for this GPU"
        ) from problem
    return device


def of_workers(name: str) -> torch.device:
    """The device of a cluster's workers: each sees its own GPU alone, and this machine may have none."""
    return torch.device("cuda") if name.partition(":")[0] == "cuda" else usable(name)


def _jobs(family: Family, indices: Sequence[int]) -> tuple[dict[int, Any], dict[int, str]]:
    """The jobs of LoRAs, and why some have none."""
    jobs, failed = {}, {}
    for index in indices:
        try:
            jobs[index] = family.job(index)
        except Exception:  # whatever the family's own code raises
            failed[index] = traceback.format_exc()
            if len(failed) == len(indices):
                raise
    return jobs, failed
