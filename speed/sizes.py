"""GL-net and the default model at GPT-3 sizes, 125M to 175B: time and memory (the paper's figure 5).

One LoRA of rank 4 on one square matrix of every layer, so that a LoRA has 8 x layers x width numbers: 74
thousand at 125M, 9.4 million at 175B. A batch is as large as 256 MB allow, 64 LoRAs at most; times are those of
a LoRA in it, from factors to answer. Each size and model has a process of its own, and its largest memory.

    python -m speed.sizes [--device cuda] [--json FILE] [--plot FILE] [--quick]
"""

import argparse
import functools
import resource
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lorascope.core import LayerShape, Signature
from lorascope.models import build_model
from lorascope.models.model import Model
from lorascope.zoo.factory.pool import Failure, run_tasks
from speed.clock import Clock
from speed.evaluation import load, machine, write_json
from speed.page import sizes_table
from speed.prediction import random_batch, random_predictor

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
    """One model at one size: seconds a LoRA, and bytes. `work` is beside batch and weights."""

    size: str
    layers: int
    width: int
    parameters: float
    model: str
    batch: int
    read: float
    forward: float
    lora_bytes: int
    model_bytes: int
    work_bytes: int


def run(device: str, *, quick: bool = False) -> dict[str, Any]:
    """Measure every size with both models, each in a process that ends with it."""
    found = {"machine": machine(device), "quick": quick}
    rows = []
    clock = Clock(device, 2, 2.0) if quick else Clock(device)
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
    import os

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    torch.set_num_threads(threads)
    return lambda task: measured(clock, *task)


@torch.inference_mode()
def measured(clock: Clock, size: Size, name: str) -> Row:
    """Time and memory of a model on a batch, beside one read of the same batch."""
    signature = size.signature
    lora_bytes = 4 * RANK * 2 * size.layers * size.width
    count = max(1, min(MOST, BATCH_BYTES // lora_bytes))
    model = model_of(name, signature).to(clock.device)
    batch = random_batch(signature, count, RANK, torch.float32, clock.device)
    flat = [x.view(-1) for group in batch.groups for x in (group.u, group.v)]
    before = memory(clock.device)
    model(batch)
    work = memory(clock.device) - before
    read = clock.seconds(lambda: [x.sum() for x in flat])
    forward = clock.seconds(functools.partial(model, batch))
    return Row(
        size=size.name,
        layers=size.layers,
        width=size.width,
        parameters=size.parameters,
        model=name,
        batch=count,
        read=read / count,
        forward=forward / count,
        lora_bytes=lora_bytes,
        model_bytes=sum(x.nbytes for x in model.state_dict().values()),
        work_bytes=max(0, work),
    )


def model_of(name: str, signature: Signature) -> Model:
    """The default model at its full size; GL-net as the paper's, one layer of width 16."""
    if name == "fusion":
        return random_predictor(name, signature, RANK).model.eval()
    return build_model(
        name, signature, 1, rank=RANK, seed=0, width=WIDTH, unit_norm=False, side=False
    ).eval()


def memory(device: str) -> int:
    """The most bytes that were held so far."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Time a LoRA and memory against the size of the base, as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    time, space = figure.subplots(1, 2)
    for model, colour in COLOURS.items():
        rows = [row for row in found["rows"] if row["model"] == model]
        x = [row["parameters"] for row in rows]
        time.plot(x, [1e3 * row["forward"] for row in rows], "o-", color=colour, label=model)
        space.plot(x, [row["model_bytes"] for row in rows], "o-", color=colour, label=model)
    x = [row["parameters"] for row in rows]
    time.plot(x, [1e3 * row["read"] for row in rows], "--", color="grey", label="one read")
    space.plot(x, [row["lora_bytes"] for row in rows], "--", color="grey", label="a LoRA")
    space.plot(x, [2 * p for p in x], ":", color="black", label="the base in fp16")
    _label(time, "ms a LoRA, factors to answer")
    _label(space, "bytes of weights")
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
    panel.legend(fontsize=8, frameon=False)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write JSON and picture where they are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    found = run(options.device, quick=options.quick)
    if options.json:
        write_json(options.json, found)
    if options.plot:
        draw(found, options.plot)
    print(f"\n{sizes_table(found)}")


if __name__ == "__main__":
    main()
