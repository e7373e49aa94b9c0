"""LoRAs with native layers (LoKr, LoHa) go wherever LoRAs of pairs go, as pairs by the named step."""

import csv

import pytest
import torch

from lorascope.core import Kronecker, LoRA, LowRank, Provenance, collate, gram
from lorascope.inspect.measure import facts_of
from lorascope.io import read_lora, write_lora
from lorascope.io.shard_file import lora_digest, read_shard, write_shard
from lorascope.io.shards import open_zoo
from lorascope.models.build import build_model
from lorascope.symmetry import act, canonical, random_gauges
from lorascope.zoo.collect.ingest import import_zoo
from tests.core.updates import made

NAMES = [f"unet.down_blocks.0.attentions.0.transformer_blocks.{i}.attn1.to_q" for i in range(3)]
LAYERS = ("second decomposed", "product", "pair")


def native(seed):
    draw = torch.Generator().manual_seed(seed)
    layers = {
        name: made(kind, draw).to(torch.float32) for name, kind in zip(NAMES, LAYERS, strict=True)
    }
    return LoRA(layers, provenance=Provenance(base="a base"))


@pytest.fixture(scope="module")
def loras():
    return [native(seed) for seed in range(6)]


def same(a, b):
    assert list(a) == list(b)
    for name in a:
        torch.testing.assert_close(a[name].dense(), b[name].dense(), rtol=1e-4, atol=1e-5)


def test_gram_matrices(loras):
    matrix = gram(collate(loras))
    expected = torch.tensor([[float(a.inner(b)) for b in loras] for a in loras])
    torch.testing.assert_close(matrix, expected, rtol=1e-4, atol=1e-3)


def test_changes_of_gauge(loras):
    draw = torch.Generator().manual_seed(0)
    for moved in (act(random_gauges(loras[0], generator=draw), loras[0]), canonical(loras[0])):
        same(moved, loras[0])
        assert all(isinstance(pair, LowRank) for pair in moved.layers.values())


def test_models_answer_as_for_pairs(loras):
    pairs = [lora.to_low_rank() for lora in loras]
    signature = loras[0].signature()
    model = build_model("gl_net", signature, 2, rank=6, seed=0)
    batch, other = collate(loras, signature), collate(pairs, signature)
    model.eval()
    torch.testing.assert_close(model(batch), model(other))


def test_shards_and_digests(loras, tmp_path):
    signature = loras[0].signature()
    write_shard(tmp_path / "shard", loras, signature, rank=6)
    for again, lora in zip(read_shard(tmp_path / "shard").unbind(), loras, strict=True):
        same(again, lora)
        assert lora_digest(again) == lora_digest(lora) == lora_digest(lora.to_low_rank())


def test_an_imported_folder(loras, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "score"])
        for number, lora in enumerate(loras):
            write_lora(lora, folder / f"{number}.safetensors", format="kohya")
            table.writerow([f"{number}.safetensors", number / 7])
    assert isinstance(read_lora(folder / "0.safetensors")[NAMES[0]], Kronecker)
    report = import_zoo(folder, folder / "labels.csv", tmp_path / "zoo")
    assert report.taken == len(loras)
    zoo = open_zoo(tmp_path / "zoo")
    for number, lora in enumerate(loras):
        same(zoo.lora(zoo.row_of(number)), lora)


def test_facts(loras):
    for layer, name in zip(facts_of(loras[0]).layers, NAMES, strict=True):
        assert layer.norm == pytest.approx(float(loras[0][name].norm()), rel=1e-5)
        assert layer.rank == loras[0][name].rank
