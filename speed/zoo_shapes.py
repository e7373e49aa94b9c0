"""How many adapters of a real shape fit and train at once, against PEFT one by one on the same device.

Bases have the shapes of Stable Diffusion 1.4 and Qwen2-1.5B and random weights (`zoo_bases.py`). The project's
engine trains 1, 2, 4, ... adapters at once until the device's memory is full, which is then searched to a
quarter; PEFT alone trains one, in the fastest of three precisions. A rate counts steps of all adapters in a
second of a whole call: start, steps and what is handed back.

    share = operations of a step * steps a second / the device's own peak in a product of two matrices

    python -m speed.zoo_shapes [--device cuda] [--only sd14] [--most K] [--steps 10] [--json FILE] [--tiny]

`--tiny` takes miniatures, on a CPU too: it shows that everything works, its numbers say nothing.
"""

import argparse
import functools
import gc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from lorascope.zoo.factory.recipe import usual_dtype
from speed.clock import Clock
from speed.evaluation import load, machine, write_json
from speed.standard import type_name
from speed.zoo_bases import MINIATURES, SHAPES, Shape, Together
from speed.zoo_images import matrix_peak

__all__ = ["main", "run", "table"]

MOST, TINY_MOST = 1024, 4
STEPS, TINY_STEPS = 10, 2


def run(
    device: str, *, names: tuple[str, ...] = (), tiny: bool = False, most: int, steps: int
) -> dict[str, Any]:
    """Measure the shapes of some names, all by default."""
    shapes = MINIATURES if tiny else SHAPES
    clock = Clock(device, 1, 0.0) if tiny else Clock(device, 3, 60.0)
    found: dict[str, Any] = {"machine": machine(clock), "tiny": tiny, "steps": steps}
    found["shapes"] = [
        {"name": name, **measured(clock, shape, most, steps)}
        for name, shape in shapes.items()
        if not names or name in names
    ]
    return found | {"load_after": load()}


def measured(clock: Clock, shape: Shape, most: int, steps: int) -> dict[str, Any]:
    """One shape: PEFT in each way, then the engine with ever more adapters."""
    alone = alone_of(clock, shape, steps)
    free(clock.device)
    together = together_of(clock, shape, most, steps)
    free(clock.device)
    best = max((way["rate"] for way in alone.values()), default=None)
    for row in together["together"]:
        row["ratio"] = None if best is None else row["rate"] / best
    return {"title": shape.title, "step": shape.step, "alone": alone, **together}


def alone_of(clock: Clock, shape: Shape, steps: int) -> dict[str, dict[str, Any]]:
    """Steps a second and memory of PEFT in each way."""
    alone = {}
    for name, train in shape.ways(clock.device):
        print(f"{shape.title}: PEFT alone, {name}", flush=True)
        found = tried(clock, functools.partial(train, steps), steps)
        if found is not None:
            alone[name] = found
        del train  # with it goes its base
        free(clock.device)
    return alone


def together_of(clock: Clock, shape: Shape, most: int, steps: int) -> dict[str, Any]:
    """Steps a second, memory and share of the peak of the engine, for ever more adapters at once."""
    dtype = usual_dtype(clock.device)
    train = shape.together(clock.device, dtype)
    rows: list[dict[str, Any]] = []

    def fits(count: int) -> bool:
        print(f"{shape.title}: {count} at once", flush=True)
        row = tried(clock, functools.partial(train, count, steps), count * steps)
        if row is not None:
            rows.append({"count": count, **row})
        return row is not None

    fit_at_once, full = search(fits, most)
    operations = operations_of(train) if rows else 0.0
    peak = matrix_peak(dtype, clock.device)
    for row in rows:
        row["share"] = operations * row["rate"] / peak
    return {
        "dtype": type_name(dtype),
        "operations_of_a_step": operations,
        "matrix_peak": peak,
        "together": sorted(rows, key=lambda row: row["count"]),
        "fit_at_once": fit_at_once,
        "memory_full": full,
    }


def search(fits: Callable[[int], bool], most: int) -> tuple[int, bool]:
    """The largest number that fits, to a quarter of it, and whether a larger one did not.

    Example:
        >>> search(lambda count: count <= 11, 64), search(lambda count: True, 6)
        ((10, True), (6, False))
    """
    low, high = 0, min(1, most)
    while fits(high):
        low, high = high, min(2 * high, most)
        if low == most:
            return low, False
    while high - low > max(1, low // 4):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low, True


def tried(clock: Clock, work: Callable[[], object], steps: int) -> dict[str, Any] | None:
    """Rate and memory of a call of so many steps; None where the memory does not hold it."""
    try:
        seconds, peak = timed(clock, work)
        found = {"rate": steps / seconds, "peak_bytes": peak}
    except torch.OutOfMemoryError:
        found = None
    free(clock.device)  # outside of the handler, which holds what failed
    return found


def timed(clock: Clock, work: Callable[[], object]) -> tuple[float, int | None]:
    """Seconds of a call, and the most bytes of the device that were held; a CPU does not count them."""
    if torch.device(clock.device).type != "cuda":
        return clock.seconds(work), None
    torch.cuda.reset_peak_memory_stats(clock.device)
    return clock.seconds(work), torch.cuda.max_memory_allocated(clock.device)


def free(device: str) -> None:
    """Give back what nobody holds."""
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()


def operations_of(train: Together) -> float:
    """Floating-point operations of one step of one adapter: those of two steps less those of one."""
    counts = []
    for steps in (1, 2):
        with FlopCounterMode(display=False) as counter:
            train(1, steps)
        counts.append(counter.get_total_flops())
    return float(counts[1] - counts[0])


def table(found: Mapping[str, Any]) -> str:
    """What was found, as lines of text."""
    told = found["machine"]
    lines = [f"{told['name']}, torch {told['torch']}, {found['steps']} steps an adapter"]
    if found["tiny"]:
        lines.append("miniatures: these numbers say nothing")
    for shape in found["shapes"]:
        lines += ["", f"{shape['title']}, rank 4, a step of {shape['step']}", _operations(shape)]
        lines += [
            f"  PEFT alone, {name:18} {way['rate']:9.2f} steps/s {_gigabytes(way['peak_bytes'])}"
            for name, way in shape["alone"].items()
        ]
        lines += [
            f"  {row['count']:5} at once, {shape['dtype']:13} {row['rate']:9.2f} steps/s "
            f"{_gigabytes(row['peak_bytes'])}  {_ratio(row['ratio'])}  "
            f"{100 * row['share']:.1f} % of the peak"
            for row in shape["together"]
        ]
        why = "then the memory is full" if shape["memory_full"] else "more were not asked for"
        lines.append(f"  {shape['fit_at_once']} fit at once; {why}")
    return "\n".join(lines)


def _operations(shape: Mapping[str, Any]) -> str:
    of_step, peak = shape["operations_of_a_step"] / 1e9, shape["matrix_peak"] / 1e9
    return f"  {of_step:.4g} GFLOP a step, matrix peak {peak:.4g} GFLOP/s in {shape['dtype']}"


def _ratio(value: float | None) -> str:
    return "PEFT does not fit" if value is None else f"{value:6.2f} x PEFT"


def _gigabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e9:6.1f} GB"


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write it as JSON where that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", help="by default a GPU; with --tiny the CPU")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--only", nargs="*", default=(), metavar="NAME", help=", ".join(SHAPES))
    parser.add_argument("--most", type=int, help=f"adapters at once, {MOST} by default")
    parser.add_argument("--steps", type=int, help=f"of each adapter, {STEPS} by default")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(arguments)
    device = options.device or ("cpu" if options.tiny else "cuda")
    if device.startswith("cuda") and not torch.cuda.is_available():
        print("zoo_shapes needs a GPU, and torch finds none here; --tiny shows it on a CPU")
        return
    found = run(
        device,
        names=tuple(options.only),
        tiny=options.tiny,
        most=options.most or (TINY_MOST if options.tiny else MOST),
        steps=options.steps or (TINY_STEPS if options.tiny else STEPS),
    )
    if options.json:
        write_json(options.json, found)
    print(f"\n{table(found)}")


if __name__ == "__main__":
    main()
