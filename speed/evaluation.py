"""Prediction against standard evaluation of one adapter, side by side in one run on one device.

Standard evaluation is at its best: half precision, the fastest of three batch sizes, the adapter merged.
Prediction includes everything from the factors on, features too, in four ways. Clocks wait for the
device, first calls do not count, medians do. What a CPU cannot run whole is added up from measured parts, and
is marked so.

    python -m speed.evaluation [--device cuda] [--json FILE] [--only NAME ...] [--quick]

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
from speed.clock import Clock
from speed.page import FLOORS, Found, evaluation_table, reading_table
from speed.prediction import IN_SHARD, Prediction, collection, measure
from speed.reading import reading
from speed.workloads import MINIATURES, WORKLOADS, Workload

__all__ = ["FLOORS", "main", "run"]

MODELS = (("fusion", False), ("fusion", True), ("gl_net", False))  # model, with trust
FILES, QUICK_FILES = 1024, 64


def run(
    device: str, *, names: tuple[str, ...] = (), quick: bool = False, files: int | None = None
) -> Found:
    """Measure the workloads of some names, all by default, and the forward against the read."""
    workloads = MINIATURES if quick else WORKLOADS
    files = files or (QUICK_FILES if quick else FILES)
    clock = Clock(device, 2, 2.0) if quick else Clock(device)
    found = {
        "machine": machine(device),
        "quick": quick,
        "workloads": [
            one(clock, name, workload, files)
            for name, workload in workloads.items()
            if not names or name in names
        ],
        "reading": reading(clock, 2 if quick else 64).to_json(),
    }
    return found | {"load_after": load()}


def one(clock: Clock, name: str, workload: Workload, files: int) -> dict[str, Any]:
    """A workload: its evaluation, then each model on the same files."""
    print(f"{workload.title}: standard evaluation", flush=True)
    standards = workload.evaluate(clock)
    for standard in standards:
        print(f"  {standard.what}: {standard.seconds:.3g} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        shards = max(1, files // IN_SHARD)
        signature = workload.signature()
        many = collection(Path(folder), signature, workload.rank, files=files, shards=shards)
        predictions: list[Prediction] = []
        for model, trust in MODELS:
            print(f"  predicting with {model}{' and trust' if trust else ''}", flush=True)
            predictions.append(measure(clock, many, model, trust=trust))
        file_bytes = many.file_bytes
    return {
        "name": name,
        "title": workload.title,
        "layers": len(signature),
        "numbers": workload.rank * sum(layer.n + layer.m for layer in signature.layers),
        "file_bytes": file_bytes,
        "standards": [standard.to_json() for standard in standards],
        "predictions": [prediction.to_json() for prediction in predictions],
    }


def machine(device: str) -> dict[str, Any]:
    """What it runs on."""
    on_gpu = torch.device(device).type == "cuda"
    return {
        "device": device,
        "name": torch.cuda.get_device_name(device) if on_gpu else processor(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load_before": load(),
    }


def load() -> float:
    """Processes that wanted a core in the last minute, on average: far above the cores, times are not true."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0


def write_json(path: Path, found: Mapping[str, Any]) -> None:
    """Write what was found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, and write them as JSON where that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--only", nargs="*", default=(), metavar="NAME", help=", ".join(WORKLOADS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--files", type=int, help=f"adapters in bulk, {FILES} by default")
    options = parser.parse_args(arguments)
    found = run(options.device, names=tuple(options.only), quick=options.quick, files=options.files)
    if options.json:
        write_json(options.json, found)
    print(f"\n{evaluation_table(found)}\n\n{reading_table(found)}")


if __name__ == "__main__":
    main()
