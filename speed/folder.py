"""The folder of the default model at the shapes of Stable Diffusion 1.4, really fitted and really written.

More random LoRAs of rank 4 on to_q and to_v of the UNet than there are landmarks are drawn, with random labels
(the size of a folder does not depend on values), and `lorascope.fit` learns a score, five attributes and forty,
trust included. The folder must stay under 50 MB, and does not grow with the number of training LoRAs.

    python -m speed.folder [--out FOLDER] [--count 1088] [--quick]
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from lorascope.core import Signature
from lorascope.models import fusion
from lorascope.predict import Predictor, Target
from lorascope.train.data import LabelledLoRAs
from lorascope.train.fit import fit_many
from lorascope.train.splits import Split
from speed.clock import Clock
from speed.evaluation import load, machine, place, write_json
from speed.prediction import random_batch
from speed.tables import folder_table
from speed.workloads import MINIATURES, RANK, WORKLOADS

__all__ = ["AT_MOST", "COUNT", "main", "run"]

AT_MOST = 50e6  # bytes
COUNT, QUICK_COUNT = 1088, 40  # LoRAs
HELD = 32  # most LoRAs of each of the parts that are not trained on; the others are more than the landmarks
FIVE, FORTY = (tuple(f"attribute-{i}" for i in range(k)) for k in (5, 40))
TARGETS = {
    "score": Target("score", "regression"),
    "five attributes": Target("five attributes", "multilabel", FIVE),
    "forty attributes": Target("forty attributes", "multilabel", FORTY),
}


def run(*, quick: bool = False, count: int | None = None) -> dict[str, Any]:
    """Fit, save, and count bytes."""
    found: dict[str, Any] = {"part": "folder", "machine": machine(Clock()), "quick": quick}
    signature = (MINIATURES if quick else WORKLOADS)["sd14"].signature()
    began = time.perf_counter()
    data = random_data(signature, count or (QUICK_COUNT if quick else COUNT))
    with at_its_largest():
        predictors = fit_many(data, split=split_of(len(data)), trust=True)
    seconds = time.perf_counter() - began
    rows = [{"target": name, **saved(predictor)} for name, predictor in predictors.items()]
    facts = {"loras": len(data), "layers": len(signature), "rank": RANK, "seconds": seconds}
    return {**found, **facts, "at_most": AT_MOST, "rows": rows, "load_after": load()}


@contextmanager
def at_its_largest() -> Iterator[None]:
    """Both looks of the default model: of labels that nothing tells it would leave the second one out."""
    with mock.patch.object(fusion, "worth_it", return_value=True):
        yield


def random_data(signature: Signature, count: int) -> LabelledLoRAs:
    """Random LoRAs with random labels, each in a group of its own."""
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    labels = {
        name: draw.normal(size=(count, 1))
        if target.kind == "regression"
        else draw.integers(0, 2, (count, target.out_features)).astype(np.float64)
        for name, target in TARGETS.items()
    }
    batch = random_batch(signature, count, RANK, torch.float32, "cpu")
    return LabelledLoRAs(batch, TARGETS, labels, groups=[str(i) for i in range(count)], side=())


def split_of(count: int) -> Split:
    """Few rows held out, all others trained on."""
    rows, held = np.arange(count), min(HELD, count // 4)
    return Split(rows[2 * held :], rows[:held], rows[held : 2 * held])


def saved(predictor: Predictor) -> Mapping[str, Any]:
    """Bytes of each file of the predictor's folder, and how many landmarks it holds."""
    with tempfile.TemporaryDirectory() as place:
        folder = predictor.save(Path(place) / "predictor")
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return {
        "model": predictor.model.name,
        "outputs": predictor.model.out_features,
        "landmarks": len(predictor.model.get_buffer("landmark_z")),
        "files": files,
        "bytes": sum(files.values()),
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write JSON where that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER")
    parser.add_argument("--count", type=int, help=f"LoRAs, {COUNT} by default")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    found = run(quick=options.quick, count=options.count)
    if options.out:
        write_json(place(options.out, "cpu", "folder"), found)
    print(folder_table(found))


if __name__ == "__main__":
    main()
