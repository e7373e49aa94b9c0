"""Every kind of damage is found and named by the check that it fails."""

import json
import shutil

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lorascope.errors import FileError
from lorascope.io.shard_writer import SHARD_DIGEST, ZooWriter
from lorascope.zoo.factory.verify import CHECKS, verify_zoo
from tests.zoo.factory.planted_zoo import planted_lora, planted_recipe, planted_row, write_planted


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo") / "zoo"
    write_planted(folder)
    return folder


@pytest.fixture
def zoo(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "zoo")


def found(folder):
    """(check, place, message) of every finding."""
    result = verify_zoo(folder)
    assert {finding.check for finding in result.findings} <= set(CHECKS)
    assert result.sound is not bool(result.findings)
    return [(f.check, f.place, f.message) for f in result.findings]


def names(folder):
    return {check for check, _, _ in found(folder)}


def test_a_sound_zoo_has_no_findings(whole):
    seen = []
    result = verify_zoo(whole, progress=lambda done, total: seen.append((done, total)))
    assert result.sound, result.findings
    assert (result.loras, result.shards, result.notes) == (12, 3, [])
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert result.bytes_read > 3000
    assert json.loads(json.dumps(result.to_json()))["sound"] is True


def test_a_folder_without_a_recipe_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"no recipe\.json"):
        verify_zoo(tmp_path)


def test_a_flipped_byte_of_weights_names_the_lora(zoo):
    path = zoo / "shards/shard-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    kinds = found(zoo)
    assert {check for check, _, _ in kinds} == {"hashes"}
    assert any("id" in place for _, place, _ in kinds)
    assert any(place == "shard-00001.safetensors" for _, place, _ in kinds)


@pytest.mark.parametrize("name", ["shard-00001.safetensors", "shard-00002.parquet"])
def test_a_missing_half_of_a_shard(zoo, name):
    (zoo / "shards" / name).unlink()
    assert ("shards", name, "is missing") in found(zoo)


def test_a_missing_shard_leaves_rows_that_no_shard_holds(zoo):
    for path in (zoo / "shards").glob("shard-00000.*"):
        path.unlink()
    assert ("index", "index.parquet, id 0", "no shard holds it") in found(zoo)


@pytest.mark.parametrize("size", [0, 5, 300, -1])
@pytest.mark.parametrize("name", ["shards/shard-00000.safetensors", "shards/shard-00000.parquet"])
def test_a_truncated_file(zoo, name, size):
    data = (zoo / name).read_bytes()
    (zoo / name).write_bytes(data[:size])
    assert any(place == name.split("/")[1] for _, place, _ in found(zoo))


def test_a_truncated_index(zoo):
    path = zoo / "index.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    assert "cannot be read" in next(m for c, p, m in found(zoo) if (c, p) == ("index", path.name))
    path.unlink()
    assert names(zoo) == {"index"}


def rewrite(zoo, name, change):
    """Change the table of a file, keeping what its metadata says."""
    table = pq.read_table(zoo / name)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), zoo / name)


def with_column(table, name, values):
    place = table.column_names.index(name)
    return table.set_column(place, name, pa.array(values, table.column(name).type))


@pytest.mark.parametrize("file", ["index.parquet", "shards/shard-00001.parquet"])
def test_an_edited_label(zoo, file):
    def edit(table):
        values = table.column("label:score").to_pylist()
        return with_column(table, "label:score", [values[0] + 1, *values[1:]])

    rewrite(zoo, file, edit)
    (finding,) = found(zoo)
    assert finding[0] == "index"
    assert finding[2].startswith("label:score is ")


def test_many_edits_are_counted(zoo):
    rewrite(zoo, "index.parquet", lambda t: with_column(t, "seed", [9] * len(t)))
    assert any("values in all differ" in message for _, _, message in found(zoo))


def test_other_types_are_told(zoo):
    def narrow(table):
        place = table.column_names.index("seed")
        return table.set_column(place, "seed", pc.cast(table.column("seed"), pa.int32()))

    rewrite(zoo, "index.parquet", narrow)
    assert found(zoo) == [
        ("index", "index.parquet", "has other types or another order than the shards make")
    ]


def test_a_duplicate_id(zoo):
    rewrite(zoo, "index.parquet", lambda t: pa.concat_tables([t, t.slice(3, 1)]))
    assert ("index", "index.parquet", "names ids more than once: [3]") in found(zoo)


def test_an_id_that_two_shards_hold(tmp_path):
    writer = ZooWriter(tmp_path / "zoo", planted_recipe())
    for number in range(2):
        writer.add_shard(number, [planted_lora(number)], [planted_row(0, number, "g")])
    writer.finish()
    assert ("index", "index.parquet", "names ids more than once: [0]") in found(tmp_path / "zoo")


def test_a_missing_column(zoo):
    rewrite(zoo, "index.parquet", lambda t: t.drop_columns(["sha256", "label:maker"]))
    assert {"index", "labels"} <= names(zoo)


@pytest.mark.parametrize("name", ["recipe.json", "splits.json", "report.json", "counts.json"])
@pytest.mark.parametrize("text", ["{", '"a text"'])
def test_a_damaged_small_file(zoo, name, text):
    (zoo / name).write_text(text)
    assert any(place == name for _, place, _ in found(zoo))


@pytest.mark.parametrize(
    ("name", "text", "check"),
    [
        ("recipe.json", "[" * 100_000, "recipe"),
        ("recipe.json", '{"targets": {"score": null}}', "recipe"),
        ("splits.json", '{"fractions": ["a", 1, 0]}', "groups"),
        ("splits.json", '{"fractions": {"a": 1}}', "groups"),
        ("counts.json", '["x"]', "counts"),
        ("counts.json", "[1000000000000000]", "counts"),
    ],
)
def test_small_files_of_another_make_are_findings(zoo, name, text, check):
    (zoo / name).write_text(text)
    assert check in names(zoo)


@pytest.mark.parametrize("values", [["x"] * 12, [None] * 12])
def test_ids_that_are_no_numbers_are_findings(zoo, values):
    def change(table):
        return table.set_column(table.column_names.index("id"), "id", pa.array(values))

    rewrite(zoo, "index.parquet", change)
    assert "index" in names(zoo)


def test_an_edited_recipe(zoo):
    recipe = json.loads((zoo / "recipe.json").read_text())
    (zoo / "recipe.json").write_text(json.dumps(recipe | {"seed": 1}))
    assert names(zoo) == {"recipe"}


def test_edited_fractions(zoo):
    (zoo / "splits.json").write_text('{"fractions": [0.5, 0.1, 0.2]}')
    assert names(zoo) == {"groups"}


def test_loras_that_failed_are_missing(zoo):
    (zoo / "counts.json").write_text("[12, 14]")
    (finding,) = found(zoo)
    assert finding[0] == "counts"
    assert "2 of 14 LoRAs are missing (ids 12, 13)" in finding[2]


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("label:score", None, "is missing"),
        ("label:score", float("nan"), "expected a finite number"),
        ("label:topics", [True], "expected 2 of true or false"),
        ("label:maker", "c", "expected one of 2 classes"),
    ],
)
def test_a_label_that_cannot_be(tmp_path, column, value, problem):
    write_planted(tmp_path / "zoo", seeds=range(3), **{column: value})
    assert all(
        check == "labels" and problem in message for check, _, message in found(tmp_path / "zoo")
    )
    assert names(tmp_path / "zoo") == {"labels"}


def test_a_label_may_lack_where_training_diverged_or_of_an_import(tmp_path):
    write_planted(tmp_path / "a", seeds=range(3), diverged=True, **{"label:score": None})
    recipe = {"kind": "import", "targets": planted_recipe()["targets"]}
    write_planted(tmp_path / "b", seeds=range(3), recipe=recipe, **{"label:score": None})
    assert found(tmp_path / "a") == found(tmp_path / "b") == []


def test_copies_in_two_groups_leak(tmp_path):
    writer = ZooWriter(tmp_path / "zoo", planted_recipe())
    rows = [planted_row(i, 0, group) for i, group in enumerate(("g", "h", ""))]
    writer.add_shard(0, [planted_lora(0)] * 3, rows)
    writer.finish()
    messages = [message for check, _, message in found(tmp_path / "zoo") if check == "groups"]
    assert len(messages) == 2
    assert "splits leak" in messages[0]
    assert messages[1] == "has no group"


def reshard(zoo, change):
    """Change the tensors of the first shard and record the new hash, as a careful hand would."""
    path = zoo / "shards/shard-00000.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors)
    save_file(tensors, path, metadata)
    rows = zoo / "shards/shard-00000.parquet"
    table = pq.read_table(rows)
    kept = {k: v for k, v in table.schema.metadata.items() if k != SHARD_DIGEST}
    pq.write_table(table.replace_schema_metadata(kept), rows)


def test_values_beyond_the_rank_and_hashes_that_are_not_recorded(zoo):
    def pad(tensors):
        tensors["u.0"][0, 1, 1] = 1.0  # the second LoRA has rank 1

    reshard(zoo, pad)
    assert names(zoo) == {"finite"}
    assert "1 shards record no hash" in verify_zoo(zoo).notes[0]


def test_values_that_are_not_finite(zoo):
    def spoil(tensors):
        tensors["u.0"][0, 0, 0, 0] = torch.nan

    reshard(zoo, spoil)
    assert names(zoo) == {"finite", "hashes"}


def test_a_shard_of_another_size(zoo):
    rewrite(zoo, "shards/shard-00000.parquet", lambda t: t.slice(0, 4))
    assert any("holds 5 LoRAs, its rows are 4" in message for _, _, message in found(zoo))


def test_places_that_are_named_twice(zoo):
    rewrite(zoo, "shards/shard-00000.parquet", lambda t: with_column(t, "row", [0, 0, 1, 2, 3]))
    assert any("expected each once" in message for _, _, message in found(zoo))


def test_what_a_write_left_behind(zoo):
    (zoo / "shards/shard-00009.safetensors.part").write_bytes(b"half")
    assert names(zoo) == {"shards"}
