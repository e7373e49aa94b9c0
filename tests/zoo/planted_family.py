"""A tiny family for the tests of the factory: random tokens on a random base."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.language.evaluate import weighted_loss
from tests.zoo.conftest import make_base, make_job

SPEC = AdapterSpec(("q_proj", "v_proj"), rank=2, alpha=4)


@dataclass(frozen=True)
class PlantedFamily:
    """Labels: the loss on one fixed batch. `bad` indices raise or are killed on purpose."""

    base_folder: Path
    seed: int = 0
    fails_at: int = -1
    name: str = "planted"
    spec: AdapterSpec = SPEC

    @property
    def options(self):
        return {"examples": 12}

    @property
    def targets(self):
        return {"loss": {"kind": "regression"}}

    def job(self, index):
        rate = 1e30 if index == 3 else 1e-3 * (1 + index % 5)
        return make_job(
            self.seed * 1000 + index,
            examples=12,
            learning_rate=rate,
            epochs=1 + index % 3,
            batch_size=(4, 8)[index % 2],
        )

    def group(self, index):
        return str(index % 4)

    def hyper(self, index):
        job = self.job(index)
        return {"learning_rate": job.learning_rate, "epochs": float(job.epochs)}

    def evaluate(self, base, fitted, indices):
        if self.fails_at in indices:
            raise RuntimeError("failed on purpose")
        asked = make_job(77, examples=9)
        losses = weighted_loss(base, self.spec, fitted, asked.tokens, asked.weights)
        return [{"loss": float(value)} for value in losses]

    def report(self, table):
        losses = [x for x in table.column("label:loss").to_pylist() if x is not None]
        return {"mean loss": sum(losses) / len(losses)}


@dataclass(frozen=True)
class Held(PlantedFamily):
    """Nothing is labelled before the gate is there; a first shard may be, where their folder is named."""

    gate: Path = Path()
    shards: Path = Path()

    def evaluate(self, base, fitted, indices):
        for _ in range(600):
            free = self.shards != Path() and not any(self.shards.glob("*.parquet"))
            if free or self.gate.exists():
                return super().evaluate(base, fitted, indices)
            time.sleep(0.1)
        raise RuntimeError("the gate stayed shut")


def save_base(folder):
    make_base(dtype=torch.float32).save_pretrained(folder)
    return folder
