"""A zoo on disk: what is written is read, in any order, and nothing half-made is ever seen."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lorascope.core import Provenance, Scale, Side, collate
from lorascope.errors import DataError, FileError, IntegrityError
from lorascope.io.shard_writer import ZooWriter
from lorascope.io.shards import open_zoo, recipe_sha256
from tests.conftest import random_lora
from tests.core.test_magnitudes import with_magnitudes

RECIPE = {
    "family": "test",
    "targets": {"score": {"kind": "regression"}, "tags": {"kind": "multilabel"}},
}


@pytest.fixture
def loras(generator):
    scales = {"b.0.q": Scale(8.0, 3, 8 / 3, "alpha/r")}
    provenance = Provenance("peft", "x", "base", None, scales, ("a: b",), (), {"r": 3}, {})
    side = {"head": Side("full", torch.arange(3, dtype=torch.int64))}
    return [
        replace(random_lora(generator, rank=1 + i % 3), provenance=provenance, side=side)
        for i in range(5)
    ]


def row(i):
    return {
        "id": i,
        "seed": 100 + i,
        "group": f"g{i // 2}",
        "hyper:lr": 0.1 * i,
        "label:score": float(i),
        "label:tags": [i % 2 == 0, True],
    }


def write(path, loras, order=((0, (3, 4)), (1, (0, 1, 2)))):
    writer = ZooWriter(path, RECIPE)
    for number, members in order:
        writer.add_shard(number, [loras[i] for i in members], [row(i) for i in members])
    return writer.finish({"ceiling": 1})


def test_round_trip(tmp_path, loras):
    zoo = write(tmp_path / "zoo", loras)
    assert len(zoo) == 5
    assert zoo.column("id").tolist() == [0, 1, 2, 3, 4]
    assert zoo.labels("score").tolist() == [0, 1, 2, 3, 4]
    assert zoo.labels("tags").shape == (5, 2)
    assert zoo.groups() == ["g0", "g0", "g1", "g1", "g2"]
    np.testing.assert_allclose(zoo.hyper()["lr"], [0, 0.1, 0.2, 0.3, 0.4])
    assert zoo.report == {"ceiling": 1}
    assert zoo.splits["fractions"] == [0.7, 0.1, 0.2]
    assert "5 LoRAs" in repr(zoo)
    for i, lora in enumerate(loras):
        again = zoo.lora(zoo.row_of(i))
        assert again.provenance == lora.provenance
        assert torch.equal(again.side["head"].tensor, lora.side["head"].tensor)
        assert again.side["head"].kind == "full"
        for name in lora:
            assert torch.equal(again[name].u, lora[name].u)
            assert torch.equal(again[name].v, lora[name].v)
            assert again[name].kernel == lora[name].kernel


@pytest.mark.parametrize("rows", [None, [4, 0, 2], []])
def test_batches_are_gathered_in_the_order_asked(tmp_path, loras, rows):
    zoo = write(tmp_path / "zoo", loras)
    chosen = loras if rows is None else [loras[i] for i in rows]
    expected = collate(chosen, loras[0].signature())
    found = zoo.batch(rows)
    assert torch.equal(found.ranks, expected.ranks)
    assert found.rank == expected.rank
    for a, b in zip(found.groups, expected.groups, strict=True):
        assert torch.equal(a.u, b.u)
        assert torch.equal(a.v, b.v)
    assert zoo.batch(rows, dtype=torch.float32).dtype == torch.float32


def test_the_order_of_building_does_not_show(tmp_path, loras):
    one = write(tmp_path / "one", loras)
    two = write(tmp_path / "two", loras, order=((1, (0, 1, 2)), (0, (3, 4))))
    for name in ("index.parquet", "shards/shard-00001.safetensors", "recipe.json", "splits.json"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()


def test_a_shard_without_its_rows_is_built_again(tmp_path, loras):
    writer = ZooWriter(tmp_path / "zoo", RECIPE)
    writer.add_shard(0, loras[:2], [row(0), row(1)])
    writer.add_shard(1, loras[2:], [row(2), row(3), row(4)])
    (tmp_path / "zoo/shards/shard-00000.parquet").unlink()
    (tmp_path / "zoo/shards/shard-00002.safetensors.part").write_bytes(b"half")
    writer = ZooWriter(tmp_path / "zoo", RECIPE)
    assert not writer.has_shard(0)
    assert writer.has_shard(1)
    assert not list((tmp_path / "zoo/shards").glob("*.part"))
    assert writer.finish().column("id").tolist() == [2, 3, 4]
    writer.add_shard(0, loras[:2], [row(0), row(1)])
    assert len(writer.finish()) == 5


def test_events_are_appended(tmp_path):
    writer = ZooWriter(tmp_path / "zoo", RECIPE)
    writer.log(seconds=1.5)
    writer.log(failed=3)
    lines = (tmp_path / "zoo/build.jsonl").read_text().splitlines()
    assert lines == ['{"seconds": 1.5}', '{"failed": 3}']


def test_a_recipe_never_changes(tmp_path):
    ZooWriter(tmp_path / "zoo", RECIPE)
    with pytest.raises(FileError, match=r"differ in \['family'\]"):
        ZooWriter(tmp_path / "zoo", {**RECIPE, "family": "other"})
    (tmp_path / "else").mkdir()
    (tmp_path / "else/file").touch()
    with pytest.raises(FileError, match="Nothing is overwritten"):
        ZooWriter(tmp_path / "else", RECIPE)


def test_what_is_no_zoo_is_refused(tmp_path, loras):
    with pytest.raises(FileError, match="no zoo"):
        open_zoo(tmp_path)
    writer = ZooWriter(tmp_path / "zoo", RECIPE)
    with pytest.raises(FileError, match="did not end"):
        open_zoo(tmp_path / "zoo")
    with pytest.raises(DataError, match="no shard is there"):
        writer.finish()
    with pytest.raises(DataError, match="as many of both"):
        writer.add_shard(0, loras, [row(0)])
    zoo = write(tmp_path / "zoo", loras)
    assert zoo.report == {"ceiling": 1}
    for call, message in [
        (lambda: zoo.labels("size"), "found the targets score, tags"),
        (lambda: zoo.column("size"), "there is no 'size'"),
        (lambda: zoo.lora(5), "it has 5"),
        (lambda: zoo.row_of(9), "Ids run from 0 to 4"),
    ]:
        with pytest.raises(DataError, match=message):
            call()


def test_damage_is_noticed(tmp_path, loras):
    zoo = write(tmp_path / "zoo", loras)
    shard = tmp_path / "zoo/shards/shard-00001.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(IntegrityError):
        open_zoo(zoo.path).batch()
    shard.unlink()
    with pytest.raises(
        IntegrityError, match=r"shard-00001\.safetensors that its index names is missing"
    ):
        open_zoo(zoo.path).lora(0)
    shard.write_bytes(whole)
    (zoo.path / "index.parquet").write_bytes(b"PAR1")
    with pytest.raises(IntegrityError, match="index cannot be read"):
        open_zoo(zoo.path)
    (zoo.path / "recipe.json").write_text("{")
    with pytest.raises(IntegrityError, match="no JSON"):
        open_zoo(zoo.path)
    (zoo.path / "splits.json").unlink()
    (zoo.path / "report.json").unlink()
    assert zoo.report == {}
    assert zoo.splits["fractions"] == [0.7, 0.1, 0.2]


def test_loras_come_shard_by_shard(tmp_path, loras):
    zoo = write(tmp_path / "zoo", loras)
    found = dict(zoo.loras([4, 0, 2]))
    assert list(found) == [4, 0, 2]  # rows 3 and 4 lie in the first shard
    for row, lora in found.items():
        assert lora.provenance == loras[row].provenance
        assert torch.equal(lora["b.0.q"].u, loras[row]["b.0.q"].u)
    assert sorted(dict(zoo.loras())) == [0, 1, 2, 3, 4]


def test_the_identity_of_a_recipe_sees_values_not_the_order_of_keys():
    assert recipe_sha256({"a": 1, "b": [2]}) == recipe_sha256({"b": [2], "a": 1})
    assert recipe_sha256({"a": 1}) != recipe_sha256({"a": 2})


def test_magnitudes_of_dora_come_with_the_factors(tmp_path, loras, generator):
    assert write(tmp_path / "plain", loras).batch().magnitudes is None
    dora = [replace(x, side={**x.side, **with_magnitudes(x, generator).side}) for x in loras]
    dora[3] = loras[3]
    dora[4] = replace(loras[4], side=with_magnitudes(loras[4], generator, ["b.0.q"], (1, -1)).side)
    zoo = write(tmp_path / "zoo", dora)
    for rows in (None, [4, 0, 2], [3]):
        chosen = dora if rows is None else [dora[row] for row in rows]
        found, expected = zoo.batch(rows).magnitudes, collate(chosen).magnitudes
        if rows == [3]:
            assert found is None
            continue
        assert torch.equal(found.present, expected.present)
        for a, b in zip(found.groups, expected.groups, strict=True):
            assert torch.equal(a, b)
    assert zoo.side_kinds() == {"full", "dora_magnitude", "dora_magnitude of columns"}
    assert set(zoo.lora(0).side) == set(dora[0].side)


@pytest.mark.parametrize(
    ("name", "values"),
    [("row", 999), ("row", -1), ("rank", 10**9), ("provenance", "{}"), ("shard", "../x")],
)
def test_an_index_of_another_make_is_refused(tmp_path, loras, name, values):
    zoo = write(tmp_path / "zoo", loras)
    table = zoo.index.set_column(
        zoo.index.column_names.index(name), name, pa.array([values] * len(zoo))
    )
    pq.write_table(table, zoo.path / "index.parquet")
    with pytest.raises(IntegrityError):
        open_zoo(zoo.path).lora(1)
    if name != "provenance":  # which no batch reads
        with pytest.raises(IntegrityError):
            open_zoo(zoo.path).batch()


@pytest.mark.parametrize("name", ["report.json", "splits.json"])
def test_small_files_of_another_make_are_refused(tmp_path, loras, name):
    zoo = write(tmp_path / "zoo", loras)
    (zoo.path / name).write_text("[1]")
    with pytest.raises(IntegrityError, match="expected an object"):
        zoo.report if name == "report.json" else zoo.splits  # noqa: B018
