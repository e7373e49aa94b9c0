"""A small zoo on disk, written without training: for what reads, copies and checks zoos."""

import torch

from lorascope.core import LoRA, LowRank
from lorascope.core.lora import Provenance, Scale
from lorascope.io.shard_writer import ZooWriter, write_json

SIZES = {"model.layers.0.q_proj": (8, 6), "model.layers.0.v_proj": (5, 6)}
TARGETS = {
    "score": {"kind": "regression", "metric": "r2", "base_value": 0.25},
    "topics": {"kind": "multilabel", "classes": ["odd", "big"]},
    "maker": {"kind": "multiclass", "classes": ["a", "b"]},
}


def planted_lora(seed, rank=2):
    draw = torch.Generator().manual_seed(seed)
    layers = {
        name: LowRank(torch.randn(n, rank, generator=draw), torch.randn(m, rank, generator=draw))
        for name, (n, m) in SIZES.items()
    }
    scales = dict.fromkeys(layers, Scale(4.0, rank, 4.0 / rank, "alpha/r"))
    return LoRA(layers, provenance=Provenance(base="tiny", scales=scales, config={"r": rank}))


def planted_row(identity, seed, group, **more):
    return {
        "id": identity,
        "seed": seed,
        "group": group,
        "diverged": False,
        "hyper:rate": 0.001 * (1 + seed % 7),
        "label:score": float(seed % 5) / 4,
        "label:topics": [seed % 2 == 1, seed > 6],
        "label:maker": "ab"[seed % 2],
        **more,
    }


def planted_recipe(**more):
    return {
        "family": "planted",
        "seed": 0,
        "base": {"folder": "tiny", "sha256": "0" * 64},
        "targets": TARGETS,
        **more,
    }


def write_planted(folder, *, seeds=range(12), first_id=0, shard=5, rank=2, recipe=None, **more):
    """A zoo of one LoRA a seed; two neighbouring seeds share a group."""
    seeds = list(seeds)
    writer = ZooWriter(folder, recipe or planted_recipe())
    for number, start in enumerate(range(0, len(seeds), shard)):
        some = seeds[start : start + shard]
        rows = [
            {**planted_row(first_id + start + i, seed, f"g{seed // 2}"), **more}
            for i, seed in enumerate(some)
        ]
        # of two ranks, so that a shard holds padding
        loras = [planted_lora(seed, rank - seed % 2) for seed in some]
        writer.add_shard(number, loras, rows)
    versions = {"torch": "2.0", "python": "3.11", "compiler": "cc<1>"}
    for lorascope in ("0.2", "0.1"):
        writer.log(event="start", host="secret-host", lorascope=lorascope, **versions)
    if "family" in writer.recipe and first_id == 0:
        write_json(writer.path / "counts.json", [len(seeds)])
    scores = {"score": {"mean_difference": 0.125, "hyper_r2": 0.25}}
    return writer.finish({"ceilings": {"score": {"r2": 0.9}}, "scores": scores})
