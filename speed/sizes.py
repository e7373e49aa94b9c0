"""GL-net and the default model at GPT-3 sizes, 125M to 175B: time and memory (the paper's figure 5).

One LoRA of rank 4 on one square matrix of every layer, so that a LoRA has 8 x layers x width numbers: 74
thousand at 125M, 9.4 million at 175B. From factors to answer, features included, timed for one LoRA alone and a
LoRA in a batch (as many as 256 MB allow, 64 at most). Each size and model has a process of its own, and its
largest memory, which is that of one LoRA's forward. Every size is measured, none is extrapolated.

    python -m speed.sizes [--device cuda] [--out FOLDER] [--plot FILE] [--quick] [--shared]
"""

import argparse
import ctypes
import functools
import gc
import os
import resource
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from lorascope.core import LayerShape, Signature
from lorascope.models import build_model
from lorascope.models.model import Model
from lorascope.zoo.factory.pool import Failure, run_tasks
from speed.clock import Clock
from speed.evaluation import clock_of, load, machine, place, write_json
from speed.prediction import random_batch, random_predictor
from speed.tables import sizes_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SIZES", "Size", "draw", "main", "run"]

RANK, WIDTH = 4, 16
BATCH_BYTES, MOST = 2**28, 64
COLOURS = {"fusion": "#1b6ca8", "gl_net": "#e6a117"}


@dataclass(frozen=True)
class Size:
    """A GPT-3 model: its layers, their width, and all its parameters."""

    name: str
    layers: int
    width: int
    parameters: float

    @property
    def signature(self) -> Signature:
        """One square matrix of every layer."""
        names = [f"model.layers.{i}.self_attn.q_proj" for i in range(self.layers)]
        return Signature(tuple(LayerShape(name, self.width, self.width) for name in names))


#: Layers and widths of Brown et al. 2020, table 2.1, whose width of 13B is 5140.
SIZES = (
    Size("125M", 12, 768, 125e6),
    Size("350M", 24, 1024, 350e6),
    Size("760M", 24, 1536, 760e6),
    Size("1.3B", 24, 2048, 1.3e9),
    Size("2.7B", 32, 2560, 2.7e9),
    Size("6.7B", 32, 4096, 6.7e9),
    Size("13B", 40, 5140, 13e9),
    Size("175B", 96, 12288, 175e9),
)
QUICK = (Size("miniature", 2, 32, 1e4), Size("small", 3, 64, 1e5))
MODELS = ("gl_net", "fusion")


@dataclass(frozen=True)
class Row:
    """One model at one size: seconds a LoRA, in a batch or alone, and bytes.

    `work_bytes` are held at the largest moment of the forward of one LoRA, weights and factors not counted.
    """

    size: str
    layers: int
    width: int
    parameters: float
    model: str
    batch: int
    read: float
    forward: float
    alone: float
    lora_bytes: int
    model_bytes: int
    work_bytes: int


def run(device: str, *, quick: bool = False, shared: bool = False) -> dict[str, Any]:
    """Measure every size with both models, each in a process that ends with it."""
    clock = clock_of(device, quick=quick, shared=shared)
    found = {"part": "sizes", "machine": machine(clock), "quick": quick}
    rows = []
    for size in QUICK if quick else SIZES:
        for model in MODELS:
            print(f"{size.name}, {model}", flush=True)
            rows.append(asdict(alone(clock, size, model)))
    return {**found, "rows": rows, "load_after": load()}


def alone(clock: Clock, size: Size, model: str) -> Row:
    """A row, measured in a fresh process."""
    start = functools.partial(start_row, clock, torch.get_num_threads())
    (_, result), *_ = run_tasks([(size, model)], start, 1)
    if isinstance(result, Failure):
        raise SystemExit(result.message)
    row: Row = result
    return row


def start_row(clock: Clock, threads: int) -> Any:
    """A worker with all cores, not the one that it was pinned to."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    torch.set_num_threads(threads)
    return lambda task: measured(clock, *task)


@torch.inference_mode()
def measured(clock: Clock, size: Size, name: str) -> Row:
    """Time and memory of a model, beside one read of the same batch."""
    signature = size.signature
    lora_bytes = 4 * RANK * 2 * size.layers * size.width
    count = max(1, min(MOST, BATCH_BYTES // lora_bytes))
    model = model_of(name, signature).to(clock.device)
    one = random_batch(signature, 1, RANK, torch.float32, clock.device)
    work = held_by(functools.partial(model, one), clock.device)
    batch = random_batch(signature, count, RANK, torch.float32, clock.device)
    flat = [x.view(-1) for group in batch.groups for x in (group.u, group.v)]
    times = clock.beside(
        {
            "read": lambda: [x.sum() for x in flat],
            "forward": functools.partial(model, batch),
            "alone": functools.partial(model, one),
        }
    )
    return Row(
        size=size.name,
        layers=size.layers,
        width=size.width,
        parameters=size.parameters,
        model=name,
        batch=count,
        read=median(times["read"]) / count,
        forward=median(times["forward"]) / count,
        alone=median(times["alone"]) * clock.cores,  # by one core
        lora_bytes=lora_bytes,
        model_bytes=sum(x.nbytes for x in model.state_dict().values()),
        work_bytes=work,
    )


def model_of(name: str, signature: Signature) -> Model:
    """The default model at its full size; GL-net as the paper's, one layer of width 16."""
    if name == "fusion":
        return random_predictor(name, signature, RANK).model.eval()
    return build_model(
        name, signature, 1, rank=RANK, seed=0, width=WIDTH, unit_norm=False, side=False
    ).eval()


def held_by(work: Callable[[], object], device: str) -> int:
    """Bytes beyond those held before, at the largest moment of a call."""
    work()  # loads code and fills caches
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    before = forget_most()
    work()
    return max(0, most() - before)


def forget_most() -> int:
    """Bytes held now, which the system then takes for the most, where it can be told so (Linux)."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except (AttributeError, OSError):
        return most()  # what was held before hides what is smaller
    return status("VmRSS")


def most() -> int:
    """The most bytes that this process held."""
    if Path("/proc/self/status").is_file():
        return status("VmHWM")
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def status(key: str) -> int:
    """Bytes in the system's account of this process."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Time a LoRA and memory against the size of the base, as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    time, space = figure.subplots(1, 2)
    for model, colour in COLOURS.items():
        rows = [row for row in found["rows"] if row["model"] == model]
        x = [row["parameters"] for row in rows]
        for key, line, what in (("alone", "o-", "one LoRA"), ("forward", "o:", "in a batch")):
            time.plot(x, [row[key] for row in rows], line, color=colour, label=f"{model}, {what}")
        for key, line, what in (("model_bytes", "o-", "weights"), ("work_bytes", "o:", "at work")):
            space.plot(x, [row[key] for row in rows], line, color=colour, label=f"{model}, {what}")
    x = [row["parameters"] for row in rows]
    time.plot(x, [row["read"] for row in rows], "--", color="grey", label="one read")
    space.plot(x, [row["lora_bytes"] for row in rows], "--", color="grey", label="a LoRA")
    space.plot(x, [2 * p for p in x], ":", color="black", label="the base in fp16")
    _label(time, "seconds a LoRA, factors to answer")
    _label(space, "bytes")
    figure.suptitle("GPT-3 sizes, one rank-4 LoRA on a square matrix of every layer", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", metadata={"Software": None})


def _label(panel: "Axes", what: str) -> None:
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("parameters of the base", fontsize=8)
    panel.set_ylabel(what, fontsize=8)
    panel.tick_params(labelsize=8)
    panel.grid(color="#eeeeee")
    panel.legend(fontsize=7, frameon=False)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write JSON and picture where they are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, metavar="FOLDER")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--shared", action="store_true", help="count processor time")
    options = parser.parse_args(arguments)
    found = run(options.device, quick=options.quick, shared=options.shared)
    if options.out:
        write_json(place(options.out, options.device, "sizes"), found)
    if options.plot:
        draw(found, options.plot)
    print(f"\n{sizes_table(found)}")


if __name__ == "__main__":
    main()
