"""A tiny suite on planted zoos, run once: home, a second version of its base, higher ranks, another kind."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from lorascope.bench.jobs import Run
from lorascope.bench.record import Asked, load_runs
from lorascope.bench.schedule import run_suite
from lorascope.bench.suites import Suite
from lorascope.bench.tasks import facts_of
from lorascope.bench.trust_exam import examine
from lorascope.core import MAGNITUDE, LoRA, LowRank, Side
from lorascope.io.shard_writer import ZooWriter
from tests.planted import CLASSES, planted_loras

BASE_VALUE = 10.0
SUITE = Suite(
    "tiny",
    ("majority", "norm only", "hyper-parameters", "ridge", "kernel_cosine", "mlp", "fusion"),
    ("home",),
    {"home": ("home-rank-5", "home-second", "home-control")},
    {"home-conv": "home"},
    seeds=(0, 1),
    trials=2,
    tuning_loras=40,
    sizes=(24, 1000),
    leaders=2,
)


def write_zoo(
    path: Path,
    count: int,
    seed: int,
    *,
    extra: int = 0,
    layers: int = 3,
    base: float = BASE_VALUE,
    groups: Callable[[int], str] = "pair-{}".format,
    change: Callable[[LoRA], LoRA] = lambda lora: lora,
) -> Path:
    """A zoo of planted LoRAs, two and two of a group.

    `extra` columns of nothing raise the rank, `layers` is how many it has, `groups` names them.
    """
    loras, table = planted_loras(count, seed)
    loras = [change(lora) for lora in loras]
    names = list(loras[0].layers)[:layers]
    if extra or layers < 3:
        loras = [
            LoRA({n: padded(x.pair(n), extra) for n in names}, {}, x.provenance) for x in loras
        ]
    score = {"kind": "regression", "base_value": base}
    sources = {"kind": "multilabel", "classes": list(CLASSES)}
    targets = {"sources": sources, "score": score, "dataset_size": {"kind": "regression"}}
    writer = ZooWriter(path, {"family": "planted", "seed": seed, "targets": targets})
    draw = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, generator=draw).tolist()
    rows = [
        {
            "id": row,
            "seed": row,
            "group": groups(row // 2),
            "hyper:batch_size": float(1 + row % 3),
            "hyper:learning_rate": 10 ** (float(table[row, 3]) + 0.1 * noise[row]),
            "hyper:images": float(row % 5),
            "hyper:steps": 100.0,
            "label:sources": table[row, :3].astype(bool).tolist(),
            "label:score": None if row == 3 else base + float(table[row, 3]),
            "label:dataset_size": float(row % 5),
        }
        for row in range(count)
    ]
    writer.add_shard(0, loras, rows)
    ceilings = {"score": {"r2": 0.98, "r2_se": 0.012}, "sources": {"accuracy": 1.0}}
    writer.finish({"ceilings": ceilings})
    return path


def padded(pair: LowRank, extra: int) -> LowRank:
    """The same update with a higher rank."""
    wide = (torch.nn.functional.pad(x, (0, extra), value=1e-6) for x in (pair.u, pair.v))
    return LowRank(*wide)


@dataclass(frozen=True)
class Finished:
    """A suite that was run."""

    asked: Asked
    folder: Path
    runs: list[Run]

    def of(self, method: str, stage: str = "score", seed: int = 0) -> Run:
        """The first run of a method."""
        return next(r for r in self.runs if (r.method, r.stage, r.seed) == (method, stage, seed))


def shared_with_home(group: int) -> str:
    """Four groups have the names of groups at home, and are the same ones."""
    return f"pair-{group}" if group < 4 else f"second-{group}"


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """The folders of the zoos by name."""
    place = tmp_path_factory.mktemp("zoos")
    return {
        "home": write_zoo(place / "home", 80, 0),
        "home-rank-5": write_zoo(place / "home-rank-5", 12, 1, extra=2, groups="rank-{}".format),
        "home-second": write_zoo(
            place / "home-second", 20, 2, base=BASE_VALUE + 0.5, groups=shared_with_home
        ),
        "home-control": write_zoo(
            place / "home-control", 12, 3, layers=2, groups="control-{}".format
        ),
        "home-conv": write_zoo(place / "home-conv", 40, 4, layers=2, groups="conv-{}".format),
    }


@pytest.fixture(scope="session")
def asked(folders):
    """The tiny suite on its zoos."""
    return Asked.now(SUITE, {name: facts_of(name, path) for name, path in folders.items()})


@pytest.fixture(scope="session")
def finished(asked, tmp_path_factory):
    """The tiny suite after its run."""
    folder = tmp_path_factory.mktemp("bench")
    run_suite(asked, folder, processes=1, progress=False)
    return Finished(asked, folder, load_runs(folder))


TRUST = Suite(
    "tiny trust",
    ("fusion",),
    ("home",),
    {"home": ("home-second", "home-control", "home-rank-2", "home-dora", "home-conv")},
    seeds=(0,),
)


def turned(lora: LoRA) -> LoRA:
    """An update of the same spectra in other directions, as of a base of another seed."""
    draw = torch.Generator().manual_seed(99)
    layers = {}
    for name in lora.layers:
        pair = lora.pair(name)
        turn = torch.linalg.qr(torch.randn(pair.n, pair.n, generator=draw)).Q
        layers[name] = LowRank(turn @ pair.u, pair.v)
    return replace(lora, layers=layers)


def with_magnitudes(lora: LoRA) -> LoRA:
    """The LoRA as DoRA writes it."""
    side = {f"{name}.{MAGNITUDE}": Side(MAGNITUDE, torch.ones(lora[name].n)) for name in lora}
    return replace(lora, side=side)


@pytest.fixture(scope="session")
def trust_asked(tmp_path_factory):
    """A zoo large enough to learn trust from, and others beside it."""
    place = tmp_path_factory.mktemp("trust")
    folders = {
        "home": write_zoo(place / "home", 280, 0),
        "home-second": write_zoo(place / "home-second", 40, 2, base=BASE_VALUE + 0.5),
        "home-control": write_zoo(place / "home-control", 40, 3, change=turned),
        "home-rank-2": write_zoo(place / "home-rank-2", 20, 4),
        "home-dora": write_zoo(place / "home-dora", 20, 5, change=with_magnitudes),
        "home-conv": write_zoo(place / "home-conv", 20, 6, layers=2),
    }
    return Asked.now(TRUST, {name: facts_of(name, path) for name, path in folders.items()})


@pytest.fixture(scope="session")
def trust_records(trust_asked, tmp_path_factory):
    """Its records after one seed, as they stand in a folder."""
    folder = tmp_path_factory.mktemp("records")
    return examine(trust_asked, folder), folder


def close(a: float | None, b: float | None) -> bool:
    """Whether two scores agree."""
    return a is not None and b is not None and math.isclose(a, b, abs_tol=2e-5)
