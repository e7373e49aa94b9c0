"""One shard: layout, refusal of other files, and the digest of a LoRA."""

import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lorascope.core import LoRA, Side, collate
from lorascope.errors import IntegrityError
from lorascope.io.shard_file import (
    lora_digest,
    read_shard,
    read_shard_loras,
    read_shard_signature,
    read_shard_size,
    write_shard,
)
from tests.conftest import random_lora


@pytest.fixture
def loras(generator):
    return [random_lora(generator), random_lora(generator, rank=2)]


@pytest.fixture
def shard(tmp_path, loras):
    path = tmp_path / "shard.safetensors"
    write_shard(path, loras, loras[0].signature(), rank=3)
    return path


def test_the_file_holds_the_layout_of_a_batch(shard, loras):
    batch = collate(loras)
    stored = load_file(shard)
    assert torch.equal(stored["u.0"], batch.groups[0].u)
    assert torch.equal(stored["v.2"], batch.groups[2].v)
    assert stored["ranks"].tolist() == batch.ranks.tolist()
    assert read_shard_signature(shard) == loras[0].signature()
    assert read_shard(shard, rows=[1]).ranks.tolist() == [[2, 1, 2, 2]]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_umask_says_who_may_read_a_shard(tmp_path, loras, umask, mode):
    before = os.umask(umask)
    try:
        write_shard(tmp_path / "a.safetensors", loras, loras[0].signature(), rank=3)
    finally:
        os.umask(before)
    (made,) = tmp_path.iterdir()
    assert made.stat().st_mode & 0o777 == mode


def test_loras_come_back_with_kernels_and_what_stood_beside_them(tmp_path, loras):
    path = tmp_path / "beside.safetensors"
    first = replace(loras[0], side={"head": Side("full", torch.arange(3))})
    write_shard(path, [first, loras[1]], loras[0].signature(), rank=3)
    for rows in (None, [1], [1, 0]):
        again = read_shard_loras(path, rows)
        for place, lora in zip(range(2) if rows is None else rows, again, strict=True):
            assert lora_digest(lora) == lora_digest(loras[place])
            assert lora["b.1.conv"].kernel == (3, 3)
            assert list(lora.side) == (["head"] if place == 0 else [])


def test_other_files_are_refused(tmp_path, shard):
    other = tmp_path / "other.safetensors"
    save_file({"x": torch.ones(1)}, other)
    with pytest.raises(IntegrityError, match="is no shard"):
        read_shard(other)
    described = {"format": "lorascope shard 1"}
    for text, problem in (("{", "cannot be read"), (json.dumps(described), "no 'signature'")):
        save_file({"x": torch.ones(1)}, other, {"shard": text})
        with pytest.raises(IntegrityError, match=problem):
            read_shard(other)
    described["signature"] = read_shard_signature(shard).to_json()
    metadata = {"shard": json.dumps(described)}
    save_file({"x": torch.ones(1)}, other, metadata)
    with pytest.raises(IntegrityError, match="ranks"):
        read_shard(other)
    tensors = load_file(shard)
    tensors["u.0"] = tensors["u.0"][..., :-1].contiguous()
    save_file(tensors, other, metadata)
    with pytest.raises(IntegrityError, match="found factors of shape"):
        read_shard(other)


@pytest.mark.parametrize(
    "change",
    [
        {"kernels": [1]},
        {"kernels": {"a": 5}},
        {"sides": None},
        {"sides": [[0]]},
        {"sides": [[0, "x", "y"]]},
        {"signature": []},
        {"signature": {}},
    ],
)
def test_descriptions_of_another_make_are_refused(shard, change):
    with safe_open(shard, framework="pt") as file:
        described = json.loads(file.metadata()["shard"])
    save_file(load_file(shard), shard, {"shard": json.dumps({**described, **change})})
    with pytest.raises(IntegrityError, match="Reading the shard"):
        read_shard_loras(shard)


def test_the_size_is_told_by_the_header(tmp_path, shard):
    assert read_shard_size(shard) == (2, 3)
    save_file({"x": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(IntegrityError, match="found ranks of shape"):
        read_shard_size(tmp_path / "other.safetensors")


def test_the_digest_sees_values_names_and_types_but_not_order(loras):
    lora = loras[0]
    digest = lora_digest(lora)
    assert lora_digest(lora.select(list(lora)[::-1])) == digest
    assert lora_digest(collate([lora]).unbind()[0]) == digest
    renamed = LoRA({("x" if name == "b.0.q" else name): lora[name] for name in lora})
    for other in (loras[1], lora.to(torch.float32), renamed, lora.map(lambda pair: pair.pad(4))):
        assert lora_digest(other) != digest
