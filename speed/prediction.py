"""What a prediction costs, features included: one file, many files, shards, and weights that are there already.

    latency    a file on disk -> an answer, predictor in memory
    files      1,000 files and more -> answers, a process a core
    shards     the same LoRAs packed as in a zoo, a process a core
    resident   factors on the device -> answers, the fastest of three batch sizes and two types; the model alone

Time does not depend on values, so LoRAs and predictors are random, of the sizes that training gives: `fusion`
has its 1,000 landmarks. Files lie in the system's cache of the disk. With `trust` each answer also says how
unusual its LoRA is.
"""

import functools
import itertools
import multiprocessing as mp
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lorascope.core import GroupBatch, LoRA, LoRABatch, LowRank, Signature
from lorascope.io import read_lora, write_lora
from lorascope.io.shard_file import read_shard, write_shard
from lorascope.models import build_model
from lorascope.models.fusion import LAYER_COMPONENTS, SECOND_LANDMARKS, Fusion
from lorascope.models.mixtures import LANDMARKED, LINEAR, SECOND
from lorascope.models.model import Model
from lorascope.models.rounding import rounded
from lorascope.predict import Predictor, Target, load_predictor
from lorascope.predict.outlier import Outliers
from lorascope.predict.trust import Trust
from lorascope.zoo.factory.pool import Failure, cores, run_tasks
from speed.clock import Clock
from speed.standard import type_name

__all__ = ["Collection", "Prediction", "collection", "measure", "random_batch", "random_predictor"]

LANDMARKS = 1000
DISTINCT = 16  # random LoRAs; the other files are copies of them
AT_ONCE, IN_SHARD = 32, 64  # files a task, LoRAs a shard
RESIDENT = {"cpu": (16, 64, 256), "cuda": (64, 256, 1024)}
RESIDENT_BYTES = 2**30  # largest batch on the device, three copies of which may exist
TARGET = Target("score", "regression")


@dataclass(frozen=True)
class Prediction:
    """Seconds a LoRA of each way to predict; with `trust`, `resident` is 0: not measured, the model's own."""

    model: str
    trust: bool
    latency: float
    latency_threads: int
    files: float
    file_count: int
    shards: float
    shard_loras: int
    resident: float
    resident_batch: int
    resident_dtype: str
    processes: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class Done(NamedTuple):
    """A task of a worker: how many answers, when it began and ended, and its processor time."""

    answers: int
    began: float
    ended: float
    spent: float


Task = tuple[int, str, Sequence[Path]]
"""Which predictor, whether files or a shard, and these."""


@dataclass(frozen=True)
class Collection:
    """Folders of adapters, and shards, of LoRAs of one signature."""

    signature: Signature
    rank: int
    adapters: tuple[Path, ...]
    shards: tuple[Path, ...]

    @property
    def file_bytes(self) -> int:
        """Size of one adapter's weights."""
        return sum(path.stat().st_size for path in self.adapters[0].iterdir())


def random_lora(signature: Signature, rank: int, generator: torch.Generator) -> LoRA:
    """Gaussian factors in float32."""
    return LoRA(
        {
            layer.name: LowRank(
                torch.randn(layer.n, rank, generator=generator) / layer.n,
                torch.randn(layer.m, rank, generator=generator) / layer.m,
            )
            for layer in signature.layers
        }
    )


def collection(
    folder: Path, signature: Signature, rank: int, *, files: int, shards: int
) -> Collection:
    """Writes adapters and shards, of a few random LoRAs that are repeated, and waits for the disk."""
    generator = torch.Generator().manual_seed(0)
    few = [random_lora(signature, rank, generator) for _ in range(min(DISTINCT, files))]
    adapters = [folder / f"adapter-{number:05d}" for number in range(files)]
    for number, place in enumerate(adapters):
        if number < len(few):
            write_lora(few[number], place)
        else:
            shutil.copytree(adapters[number % len(few)], place)
    places = [folder / f"shard-{number:05d}.safetensors" for number in range(shards)]
    loras = [few[number % len(few)] for number in range(IN_SHARD)]
    write_shard(places[0], loras, signature, rank=rank)
    for place in places[1:]:
        shutil.copyfile(places[0], place)
    os.sync()  # else the system still writes while files are read
    return Collection(signature, rank, tuple(adapters), tuple(places))


def random_batch(
    signature: Signature, size: int, rank: int, dtype: torch.dtype, device: str
) -> LoRABatch:
    """Gaussian factors on the device, in the layout of a batch."""

    def factor(layers: int, width: int) -> Tensor:
        return torch.randn(layers, size, rank, width, dtype=dtype, device=device) / width

    groups = tuple(GroupBatch(factor(len(g), g.n), factor(len(g), g.m)) for g in signature.groups())
    ranks = torch.full((size, len(signature)), rank, device=device)
    return LoRABatch(signature, groups, ranks)


def random_predictor(
    name: str, signature: Signature, rank: int, *, trust: bool = False, landmarks: int = LANDMARKS
) -> Predictor:
    """A predictor of one value with random weights, as large as a trained one."""
    model = build_model(name, signature, TARGET.out_features, rank=rank, seed=0)
    if isinstance(model, Fusion):
        fill_fusion(model, landmarks)
    outliers = Trust(outliers=Outliers(signature)) if trust else Trust()
    return Predictor(model, TARGET, trust=outliers)


def fill_fusion(model: Fusion, landmarks: int) -> None:
    """Gives `fusion` random directions, components, landmarks, hints and weights of their full size."""
    state, outputs, hints = model.state_dict(), model.out_features, model.most_hints
    few, layers = model.layer_hints, len(model.blocks) * model.layer_hints
    components = min(LAYER_COMPONENTS, layers)
    core, z = state["components"].shape[0], state["landmark_z"].shape[1]
    width = model.most_components
    shapes: dict[str, tuple[int, ...]] = {"components": (core, width), "hint": (hints, outputs)}
    shapes |= {"layers": (layers, outputs), "layer_components": (layers, components)}
    shapes |= {f"to_layers_{name}": (len(state[name]), few) for name in model.blocks[0]}
    shapes |= {"layers_intercept": (len(model.blocks), few)}
    beside = {"landmark_z": z, "landmark_w": width} | dict.fromkeys(LANDMARKED, outputs)
    second = {"landmark_hint": hints, "landmark_layers": components}
    second |= dict.fromkeys(SECOND, outputs)
    beside |= {f"to_hint_{name}": hints for name in LANDMARKED}
    shapes |= {name: (landmarks, columns) for name, columns in beside.items()}
    many = SECOND_LANDMARKS * landmarks
    shapes |= {name: (many, columns) for name, columns in second.items()}
    shapes |= {f"to_hint_{name}": (len(state[name]), hints) for name in LINEAR}
    shapes |= {"to_hint_intercept": (hints,)}
    state |= {name: state[name].new_zeros(shape) for name, shape in shapes.items()}
    drawn = {*shapes, *LINEAR} | {
        key for key in state if key.split(".")[-1].startswith(("p_", "q_"))
    }
    generator = torch.Generator().manual_seed(0)
    for key in sorted(drawn):
        values = torch.randn(state[key].shape, generator=generator)
        values = (values / max(1, state[key].shape[0]) ** 0.5).to(state[key].dtype)
        state[key] = rounded(values, among(model, key, values))
    # distances of about 1, as after fitting: an exponential of what is far takes another time
    usual = {"typical": 16.0 * z, "hint_typical": 2.0 * hints, "layer_typical": 2.0 * components}
    state |= {name: torch.tensor(value) for name, value in usual.items()}
    model.load_state_dict(state)


def among(model: Fusion, key: str, values: torch.Tensor) -> int | None:
    """How many numbers the tables of a kind hold together: a fit rounds them where they are many."""
    name = key.split(".")[-1]
    if name.startswith(("p_", "q_")):
        return sum(directions.numel() for directions in model.cores.buffers())
    linear = name.removeprefix("to_hint_").removeprefix("to_layers_") in LINEAR
    return sum(model.cores.widths) * values.shape[1] if linear else None


def measure(
    clock: Clock,
    many: Collection,
    models: Sequence[tuple[str, bool]],
    *,
    landmarks: int = LANDMARKS,
) -> list[Prediction]:
    """All ways to predict, with some models, each with trust or without."""
    predictors = [
        random_predictor(name, many.signature, many.rank, trust=trust, landmarks=landmarks)
        for name, trust in models
    ]
    with tempfile.TemporaryDirectory() as place:
        folders = [p.save(Path(place) / str(i)) for i, p in enumerate(predictors)]
        bulk = in_bulk(clock, folders, many)
    found = []
    for number, ((name, trust), predictor) in enumerate(zip(models, predictors, strict=True)):
        predictor.model.to(clock.device)
        threads, latency = one_file(clock, predictor, many.adapters)
        nothing = (0, "", 0.0)
        batch, dtype, resident = nothing if trust else on_device(clock, predictor.model)
        found.append(
            Prediction(
                model=name,
                trust=trust,
                latency=latency,
                latency_threads=threads,
                files=bulk[number, "files"],
                file_count=len(many.adapters),
                shards=bulk[number, "shards"],
                shard_loras=len(many.shards) * IN_SHARD,
                resident=resident,
                resident_batch=batch,
                resident_dtype=dtype,
                processes=len(cores()),
            )
        )
    return found


def one_file(clock: Clock, predictor: Predictor, adapters: Sequence[Path]) -> tuple[int, float]:
    """Threads, one or all, and seconds from a file to its answer; another file each time."""
    turn = itertools.cycle(adapters[:DISTINCT])

    def ask() -> object:
        return predictor.predict(read_lora(next(turn)))

    before, found = torch.get_num_threads(), []
    patient = replace(clock.on_one_core(), repeats=4 * clock.repeats)
    try:
        for threads in clock.threads:
            torch.set_num_threads(threads)
            found.append((threads, patient.seconds(ask)))
    finally:
        torch.set_num_threads(before)
    return min(found, key=lambda entry: entry[1])


def in_bulk(
    clock: Clock, folders: Sequence[Path], many: Collection
) -> dict[tuple[int, str], float]:
    """Seconds a LoRA of each predictor, from files and from shards, with a process on every core.

    Starting and a first task of each kind are not counted.
    """
    chunks = [many.adapters[i : i + AT_ONCE] for i in range(0, len(many.adapters), AT_ONCE)]
    shards = [(path,) for path in many.shards]
    ways: dict[str, Sequence[Sequence[Path]]] = {"files": chunks, "shards": shards}
    kinds: list[tuple[int, str]] = [(number, way) for number in range(len(folders)) for way in ways]
    tasks = [(*kind, paths) for kind in kinds for paths in ways[kind[1]]]
    first = [(*kind, ways[kind[1]][0]) for kind in kinds]
    processes = min(len(cores()), len(tasks))
    barrier = mp.get_context("spawn").Barrier(processes)
    start = functools.partial(start_reader, folders, clock.device, first, barrier)
    done: dict[tuple[int, str], list[Done]] = {kind: [] for kind in kinds}
    for task, result in run_tasks(tasks, start, processes):
        if isinstance(result, Failure):
            raise SystemExit(result.message)
        done[task[:2]].append(result)
    return {kind: a_lora(clock, results) for kind, results in done.items()}


def a_lora(clock: Clock, done: Sequence[Done]) -> float:
    """Seconds a LoRA: from the first begin to the last end, or the processor time over the cores."""
    count = sum(each.answers for each in done)
    if clock.shared:
        return sum(each.spent for each in done) / clock.cores / count
    return (max(each.ended for each in done) - min(each.began for each in done)) / count


def start_reader(
    folders: Sequence[Path], device: str, first: Sequence[Task], barrier: Any
) -> Callable[[Task], Done]:
    """A worker that answers for files or a shard.

    It has answered once in each way, and waited until all others have, before it takes work.
    """
    try:
        predictors = [load_predictor(folder) for folder in folders]
        for predictor in predictors:
            predictor.model.to(device)
        work = functools.partial(answer, predictors)
        for task in first:
            work(task)
    except Exception:
        barrier.abort()  # the others need not wait
        raise
    barrier.wait(timeout=600)
    return work


def answer(predictors: Sequence[Predictor], task: Task) -> Done:
    """One predictor's answers to some files or a shard."""
    number, way, paths = task
    began, before = time.monotonic(), time.process_time()
    read = read_shard(paths[0]) if way == "shards" else [read_lora(path) for path in paths]
    count = len(predictors[number].predict(read))
    return Done(count, began, time.monotonic(), time.process_time() - before)


@torch.inference_mode()
def on_device(clock: Clock, model: Model) -> tuple[int, str, float]:
    """Batch size, type of the factors, and seconds a LoRA of the fastest of all tried."""
    numbers = sum(layer.n + layer.m for layer in model.signature.layers) * model.rank
    sizes, found = RESIDENT[torch.device(clock.device).type], []
    for dtype in (torch.float32, torch.bfloat16):
        most = max(1, RESIDENT_BYTES // (4 * numbers))
        for size in sorted({min(size, most) for size in sizes}):
            batch = random_batch(model.signature, size, model.rank, dtype, clock.device)
            seconds = clock.seconds(functools.partial(model, batch)) / size
            found.append((size, type_name(dtype), seconds))
    return min(found, key=lambda entry: entry[2])
