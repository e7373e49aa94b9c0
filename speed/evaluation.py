"""Prediction against standard evaluation of one adapter, side by side in one run on one device.

Standard evaluation is at its best: the fastest type, the fastest of three batch sizes, the cheapest way to ask
(where there are several, all are told), the adapter merged.
Prediction includes everything from the factors on, features too, in four ways. Clocks wait for the
device, first calls do not count, medians do. What a CPU cannot run whole is added up from measured parts, and
is marked so. Each part takes a few minutes and stands alone: its evaluation and its predictions are of one run.

    python -m speed.evaluation [--part tiny sd14 qwen llama reading] [--device cuda] [--out FOLDER]
                               [--shared] [--quick] [--predictions]

`--predictions` keeps the evaluation that an earlier run of the part left in FOLDER, on the same machine and by
the same clock, and measures what is predicted again: an evaluation takes longest, and does not change.
`--shared` counts processor time, see `clock`: for a CPU that has other things to do beside.
`--quick` takes miniatures and few files: it shows that everything works, its numbers say nothing.
"""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lorascope.bench.demo import processor
from lorascope.io.processes import cores
from speed.clock import Clock
from speed.prediction import IN_SHARD, collection, measure
from speed.reading import bases, reading
from speed.tables import Found, evaluation_table, reading_table
from speed.workloads import MINIATURES, PARTS, WORKLOADS, Workload

__all__ = ["MODELS", "clock_of", "load", "machine", "main", "place", "run", "write_json"]

MODELS = (("fusion", False), ("fusion", True), ("gl_net", False))  # model, with trust
FILES, QUICK_FILES = 1024, 64


def run(
    part: str,
    device: str,
    *,
    quick: bool = False,
    shared: bool = False,
    files: int | None = None,
    kept: Found | None = None,
) -> Found:
    """Measure one part: its workloads, or the forward against the read.

    With `kept`, an earlier run, its evaluations stand. Raises SystemExit where its machine was another.
    """
    workloads = MINIATURES if quick else WORKLOADS
    files = files or (QUICK_FILES if quick else FILES)
    clock = clock_of(device, quick=quick, shared=shared)
    found: Found = {"part": part, "machine": machine(clock), "quick": quick}
    if part == "reading":
        readings = [reading(clock, base, 2 if quick else 64) for base in bases(workloads)]
        found["reading"] = [one.to_json() for one in readings]
    earlier = {} if kept is None else standards_of(kept, found)
    found["kept"] = kept is not None
    found["workloads"] = [
        one(clock, name, workloads[name], files, earlier.get(name)) for name in PARTS[part]
    ]
    return found | {"load_after": load()}


def standards_of(kept: Found, found: Found) -> dict[str, list[Any]]:
    """The evaluations of an earlier run by workload."""
    same = ("device", "name", "cores", "threads", "shared", "torch")
    for key in same:
        if kept["machine"][key] != found["machine"][key] or kept["quick"] != found["quick"]:
            raise SystemExit(f"The earlier run is of another machine or clock: see {key}.")
    return {workload["name"]: workload["standards"] for workload in kept["workloads"]}


def evaluated(clock: Clock, workload: Workload) -> list[Any]:
    """The standard evaluations of a workload as plain data."""
    print(f"{workload.title}: standard evaluation", flush=True)
    standards = workload.evaluate(clock)
    for standard in standards:
        print(f"  {standard.what}: {standard.seconds:.3g} s", flush=True)
    return [standard.to_json() for standard in standards]


def one(
    clock: Clock, name: str, workload: Workload, files: int, kept: list[Any] | None = None
) -> dict[str, Any]:
    """A workload: its evaluation, then each model on the same files."""
    standards = kept or evaluated(clock, workload)
    signature = workload.signature()
    with tempfile.TemporaryDirectory(prefix="lorascope-speed-") as folder:
        shards = max(1, files // IN_SHARD)
        many = collection(Path(folder), signature, workload.rank, files=files, shards=shards)
        print("  predictions", flush=True)
        predictions = measure(clock, many, MODELS)
        file_bytes = many.file_bytes
    return {
        "name": name,
        "title": workload.title,
        "layers": len(signature),
        "numbers": workload.rank * sum(layer.n + layer.m for layer in signature.layers),
        "file_bytes": file_bytes,
        "standards": standards,
        "predictions": [prediction.to_json() for prediction in predictions],
    }


def clock_of(device: str, *, quick: bool, shared: bool) -> Clock:
    """The clock of a run; where the machine is shared, this process takes to one thread."""
    if shared:
        torch.set_num_threads(1)
    return Clock(device, 2, 2.0, shared=shared) if quick else Clock(device, shared=shared)


def machine(clock: Clock) -> dict[str, Any]:
    """What it runs on."""
    device = clock.device
    on_gpu = torch.device(device).type == "cuda"
    return {
        "device": device,
        "name": torch.cuda.get_device_name(device) if on_gpu else processor(),
        "processor": processor(),
        "cores": len(cores()),
        "threads": torch.get_num_threads(),
        "shared": clock.shared,
        "huge_pages": os.environ.get("THP_MEM_ALLOC_ENABLE") == "1",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load_before": load(),
    }


def load() -> float:
    """Processes that wanted a core in the last minute, on average: far above the cores, times are not true."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0


def place(folder: Path, device: str, part: str) -> Path:
    """The file of a part that was measured on a kind of device."""
    return folder / f"{torch.device(device).type}-{part}.json"


def write_json(path: Path, found: Mapping[str, Any]) -> None:
    """Write what was found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, and write them as JSON where that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--part", nargs="*", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="one JSON file a part")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--predictions", action="store_true", help="keep the evaluations")
    parser.add_argument("--files", type=int, help=f"adapters in bulk, {FILES} by default")
    options = parser.parse_args(arguments)
    for part in options.part:
        how = {"quick": options.quick, "shared": options.shared, "files": options.files}
        kept = None
        if options.predictions and options.out:
            earlier = place(options.out, options.device, part)
            kept = json.loads(earlier.read_text(encoding="utf-8"))
        found = run(part, options.device, kept=kept, **how)
        if options.out:
            write_json(place(options.out, options.device, part), found)
        print(f"\n{reading_table(found) if 'reading' in found else evaluation_table([found])}\n")


if __name__ == "__main__":
    main()
