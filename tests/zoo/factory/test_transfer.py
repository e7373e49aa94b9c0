"""LoRAs arrive bit for bit, in shards of bounded size, whatever was there before."""

import torch

from lorascope.io.shard_writer import ZooWriter
from lorascope.zoo.factory import transfer as module
from lorascope.zoo.factory.transfer import Taken, transfer
from tests.zoo.factory.planted_zoo import planted_recipe, write_planted


def move(zoo, folder, places):
    writer = ZooWriter(folder, planted_recipe())
    table = zoo.index.to_pylist()
    steps = []
    transfer(
        [zoo],
        [Taken(0, place, table[place]) for place in places],
        writer,
        lambda done, total: steps.append((done, total)),
    )
    return writer.finish(), steps


def test_what_arrives_is_what_was_there(tmp_path):
    zoo = write_planted(tmp_path / "a")
    moved, steps = move(zoo, tmp_path / "b", [11, 0, 4, 7])
    assert steps == [(4, 4)]
    assert moved.column("id").tolist() == [0, 4, 7, 11]
    for row, place in enumerate([0, 4, 7, 11]):
        assert moved.column("sha256")[row] == zoo.column("sha256")[place]
        mine, theirs = moved.lora(row), zoo.lora(place)
        assert mine.provenance == theirs.provenance
        assert all(torch.equal(mine[n].u, theirs[n].u) for n in theirs)


def test_full_shards_are_cut_and_complete_ones_are_kept(tmp_path, monkeypatch):
    zoo = write_planted(tmp_path / "a")
    monkeypatch.setattr(module, "SHARD_LORAS", 5)
    moved, steps = move(zoo, tmp_path / "b", range(12))
    assert steps == [(5, 12), (10, 12), (12, 12)]
    first = moved.path / "shards/shard-00001.parquet"
    before = {p: p.read_bytes() for p in sorted(moved.path.rglob("*")) if p.is_file()}
    written = first.stat().st_mtime_ns
    (moved.path / "shards/shard-00002.parquet").unlink()
    move(zoo, tmp_path / "b", range(12))
    assert {p: p.read_bytes() for p in before} == before
    assert first.stat().st_mtime_ns == written
    monkeypatch.setattr(module, "SHARD_BYTES", 1)
    assert len(move(zoo, tmp_path / "c", range(12))[1]) == 12
