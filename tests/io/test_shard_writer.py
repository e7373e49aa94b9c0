"""Writing a zoo: rows of several types, several signatures under one, atomic texts."""

from dataclasses import replace

import pytest
import torch

from lorascope.errors import LayerError, SignatureError
from lorascope.io.shard_writer import ZooWriter, write_json, write_text
from tests.conftest import random_lora


def test_missing_columns_become_nulls(tmp_path, generator):
    writer = ZooWriter(tmp_path / "zoo", {"targets": {}})
    for number, extra in enumerate([{"label:a": 1.0}, {"label:b": "x"}]):
        row = {"id": number, "seed": 0, "group": "g", **extra}
        writer.add_shard(number, [random_lora(generator)], [row])
    index = writer.finish().index
    assert index.column("label:a").to_pylist() == [1.0, None]
    assert index.column("label:b").to_pylist() == [None, "x"]
    assert index.column_names[:3] == ["id", "seed", "group"]


def test_loras_that_lack_layers_are_stored_under_the_common_signature(tmp_path, generator):
    whole = random_lora(generator)
    part = whole.select(["b.1.conv"])
    rows = [{"id": i, "seed": 0, "group": str(i)} for i in range(2)]
    writer = ZooWriter(tmp_path / "zoo", {"targets": {}})
    writer.add_shard(0, [part, whole], rows, signature=whole.signature())
    zoo = writer.finish()
    assert set(zoo.lora(0)) == {"b.1.conv"}
    assert torch.equal(zoo.lora(1)["b.0.v"].u, whole["b.0.v"].u)
    with pytest.raises(SignatureError, match="not among"):
        writer.add_shard(1, [whole], rows[:1], signature=part.signature())


def test_texts_replace_whole(tmp_path):
    write_text(tmp_path / "a", "one")
    write_text(tmp_path / "a", "two")
    write_json(tmp_path / "b", {"x": 1})
    assert (tmp_path / "a").read_text() == "two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_one_layer_has_one_kernel(tmp_path, generator):
    lora = random_lora(generator)
    other = lora.map(lambda pair: replace(pair, kernel=(9,) if pair.kernel else ()))
    rows = [{"id": i, "seed": 0, "group": str(i)} for i in range(2)]
    writer = ZooWriter(tmp_path / "zoo", {"targets": {}})
    with pytest.raises(LayerError, match=r"'b\.1\.conv' the kernels \(3, 3\) and \(9,\)"):
        writer.add_shard(0, [lora, other], rows)
