"""Writing a zoo: rows of several types, several signatures under one, atomic texts."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from lorascope.errors import FileError, LayerError, SignatureError
from lorascope.io import shard_writer
from lorascope.io.digest import file_sha256
from lorascope.io.shard_writer import RECIPE_DIGEST, SHARD_DIGEST, ZooWriter, write_json, write_text
from lorascope.io.shards import recipe_sha256
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


def test_a_label_that_the_first_lora_of_a_shard_lacks_is_kept(tmp_path, generator):
    writer = ZooWriter(tmp_path / "zoo", {"targets": {}})
    rows = [{"id": i, "seed": 0, "group": "g", "label:a": float(i)} for i in range(3)]
    rows[1]["label:b"] = "x"
    writer.add_shard(0, [random_lora(generator) for _ in rows], rows)
    index = writer.finish().index
    assert index.column("label:a").to_pylist() == [0.0, 1.0, 2.0]
    assert index.column("label:b").to_pylist() == [None, "x", None]


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


def test_rows_record_what_their_weights_and_recipe_hash_to(tmp_path, generator):
    recipe = {"targets": {}, "ranges": (1, 2)}  # JSON makes a list of the tuple
    writer = ZooWriter(tmp_path / "zoo", recipe)
    writer.add_shard(0, [random_lora(generator)], [{"id": 0, "seed": 0, "group": "g"}])
    digests = pq.read_schema(tmp_path / "zoo/shards/shard-00000.parquet").metadata
    weights = tmp_path / "zoo/shards/shard-00000.safetensors"
    assert digests[SHARD_DIGEST].decode() == file_sha256(weights)
    assert digests[RECIPE_DIGEST].decode() == recipe_sha256(writer.finish().recipe)


@pytest.mark.parametrize("what", ["write_shard", "_write_table"])
def test_a_full_disk_leaves_nothing_of_the_shard_and_is_recorded(
    tmp_path, generator, monkeypatch, what
):
    writer = ZooWriter(tmp_path / "zoo", {"targets": {}})
    lora, row = random_lora(generator), {"id": 0, "seed": 0, "group": "g"}

    def full(path, *_, **__):
        path.with_name(path.name + ".part").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shard_writer, what, full)
        with pytest.raises(FileError, match=r"shard 0.*No space left.*free space"):
            writer.add_shard(0, [lora], [row])
    assert not list((tmp_path / "zoo/shards").iterdir())
    event = json.loads((tmp_path / "zoo/build.jsonl").read_text())
    assert event["event"] == "not written"
    writer.add_shard(0, [lora], [row])
    assert len(writer.finish()) == 1


FULL_DISK = Path("/dev/full")  # takes no byte: every write to it finds no space left
needs_full_disk = pytest.mark.skipif(not FULL_DISK.exists(), reason="there is no /dev/full here")


@needs_full_disk
@pytest.mark.parametrize("name", ["index.parquet", "splits.json", "report.json"])
def test_a_full_disk_at_the_end_is_one_message(tmp_path, generator, name):
    writer = ZooWriter(tmp_path / "zoo", {"targets": {}})
    writer.add_shard(0, [random_lora(generator)], [{"id": 0, "seed": 0, "group": "g"}])
    (tmp_path / f"zoo/{name}.part").symlink_to(FULL_DISK)
    with pytest.raises(FileError, match=rf"Writing .*{name}: .*o space left.* bytes free") as told:
        writer.finish({"score": 1})
    assert "What was whole is kept. Try: free space on the disk" in str(told.value)
    assert not list(tmp_path.rglob("*.part"))
    zoo = ZooWriter(tmp_path / "zoo", {"targets": {}}).finish({"score": 1})
    assert (len(zoo), zoo.report) == (1, {"score": 1})


@needs_full_disk
def test_a_full_disk_at_the_beginning_is_one_message(tmp_path):
    folder = tmp_path / "zoo"
    folder.mkdir()
    (folder / "recipe.json.part").symlink_to(FULL_DISK)
    with pytest.raises(FileError, match=r"recipe\.json: No space left.*expected 19\)"):
        ZooWriter(folder, {"targets": {}})
    assert not list(folder.iterdir())
    ZooWriter(folder, {"targets": {}})
    assert sorted(path.name for path in folder.iterdir()) == ["recipe.json", "shards"]


@needs_full_disk
def test_a_log_on_a_full_disk_is_one_message(tmp_path):
    writer = ZooWriter(tmp_path / "zoo", {"targets": {}})
    (tmp_path / "zoo/build.jsonl").symlink_to(FULL_DISK)
    with pytest.raises(FileError, match=r"build\.jsonl: No space left.*expected 19\)"):
        writer.log(event="start")


def test_what_may_not_be_written_is_one_message(tmp_path):
    (tmp_path / "a.part").mkdir()
    with pytest.raises(FileError, match=r"Writing .*a: Is a directory.* Try: another folder, or"):
        write_text(tmp_path / "a", "one")


def test_a_start_that_was_killed_at_once_is_begun_again(tmp_path):
    folder = tmp_path / "zoo"
    folder.mkdir()
    (folder / "recipe.json.part").write_text('{"tar')
    ZooWriter(folder, {"targets": {}})
    (folder / "index.parquet.part").write_bytes(b"PAR")
    (folder / "shards/shard-00000.safetensors.mode.part").touch()
    ZooWriter(folder, {"targets": {}})
    assert sorted(path.name for path in folder.rglob("*")) == ["recipe.json", "shards"]
    (folder / "recipe.json").rename(folder / "other.json")
    with pytest.raises(FileError, match="holds other files"):
        ZooWriter(folder, {"targets": {}})


def test_a_torn_line_of_the_log_spoils_no_other(tmp_path):
    writer = ZooWriter(tmp_path / "zoo", {"targets": {}})
    writer.log(event="start")
    with (tmp_path / "zoo/build.jsonl").open("a") as file:
        file.write('{"event": "sha')
    writer.log(event="end")
    lines = (tmp_path / "zoo/build.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in (lines[0], lines[2])] == ["start", "end"]
