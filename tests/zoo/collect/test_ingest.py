"""Importing a folder of LoRAs: labels join files, misfits are told, an interrupted import resumes."""

import json

import pytest
import torch
from safetensors.torch import save_file

from lorascope.core import LoRA, Provenance
from lorascope.errors import DataError, FileError
from lorascope.io.read import read_lora
from lorascope.io.shards import open_zoo
from lorascope.io.write import write_lora
from lorascope.zoo.collect import ingest
from lorascope.zoo.collect.ingest import import_zoo
from tests.conftest import random_pair


def make_lora(generator, rank=2, n=6, layers=("m.0.q_proj", "m.0.v_proj")):
    return LoRA({name: random_pair(n, 5, rank, generator, torch.float32) for name in layers})


@pytest.fixture
def folder(tmp_path, generator):
    folder = tmp_path / "loras"
    for i in range(4):
        write_lora(make_lora(generator, rank=1 + i % 2), folder / f"l{i}", base="tiny")
    lines = ["file,score,tags,creator", *(f"l{i},{i},a|b,c{i // 2}" for i in range(4))]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return folder


def run(folder, **options):
    return import_zoo(folder, folder.parent / "labels.csv", folder.parent / "zoo", **options)


def add_row(folder, line):
    path = folder.parent / "labels.csv"
    path.write_text(path.read_text() + "\n" + line)


def test_import_keeps_weights_labels_and_groups(folder):
    seen = []
    report = run(folder, group="creator", progress=lambda done, total: seen.append((done, total)))
    assert (report.taken, dict(report.left_out), report.warnings) == (4, {}, ())
    assert seen[-1] == (8, 8)
    zoo = open_zoo(report.zoo.path)
    assert zoo.column("file").tolist() == ["l0", "l1", "l2", "l3"]
    assert zoo.groups() == ["c0", "c0", "c1", "c1"]
    assert zoo.labels("score").tolist() == [0, 1, 2, 3]
    assert zoo.signature.base == "tiny"
    for i in range(4):
        original, stored = read_lora(folder / f"l{i}"), zoo.lora(i)
        assert stored.max_rank == 1 + i % 2
        assert stored.provenance.scales == original.provenance.scales
        for name in original:
            assert torch.equal(original[name].dense(), stored[name].dense())
    assert zoo.batch().ranks[:, 0].tolist() == [1, 2, 1, 2]


def test_without_a_group_copies_stay_together(folder, generator):
    write_lora(read_lora(folder / "l0"), folder / "copy")
    add_row(folder, "copy,9,a|b,c9")
    report = run(folder)
    groups = report.zoo.groups()
    assert groups[0] == groups[4]
    assert len(set(groups)) == 4
    assert "no group column" in report.warnings[0]


def test_copies_join_the_groups_that_name_them(folder):
    for name in ("copy", "again"):
        write_lora(read_lora(folder / "l0"), folder / name)
    add_row(folder, "copy,9,a|b,c1")  # the bytes of l0, of creator c0
    add_row(folder, "again,9,a|b,")  # and once more, of nobody
    groups = run(folder, group="creator").zoo.groups()
    assert len(set(groups)) == 1  # c0 and c1 are linked by the copy
    assert groups[0] in ("c0", "c1")


def test_links_are_followed_under_their_own_names(folder, tmp_path, generator):
    write_lora(make_lora(generator), tmp_path / "cache" / "blobs", base="tiny")
    weights = tmp_path / "cache" / "blobs" / "adapter_model.safetensors"
    (folder / "linked").symlink_to(tmp_path / "cache" / "blobs", target_is_directory=True)
    (folder / "one.safetensors").symlink_to(weights.rename(weights.with_name("0af3")))
    (tmp_path / "cache" / "blobs" / "adapter_model.safetensors").symlink_to("0af3")
    for name in ("linked", "one.safetensors"):
        add_row(folder, f"{name},9,a,c9")
    report = run(folder, group="creator")
    assert (report.taken, dict(report.left_out)) == (6, {})


@pytest.mark.parametrize("first", [True, False])
def test_a_file_without_factors_is_left_out(folder, first):
    norm = {"lora_te_text_model_encoder_layers_0_layer_norm1.w_norm": torch.ones(8)}
    save_file(norm, folder / "norm.safetensors")
    path = folder.parent / "labels.csv"
    head, *rows = path.read_text().splitlines()
    row = "norm.safetensors,9,a,c9"
    path.write_text("\n".join([head, row, *rows] if first else [head, *rows, row]))
    report = run(folder, group="creator")
    assert report.taken == 4
    assert "no update of it can be made" in report.left_out["norm.safetensors"]


def test_words_among_numbers_are_a_warning(folder):
    add_row(folder, "l9,unknown,a,c9")
    warnings = run(folder, group="creator").warnings
    assert any("'score' is read as classes" in warning for warning in warnings)


def test_a_file_that_is_not_finite_is_left_out(folder, generator):
    lora = make_lora(generator)
    write_lora(lora.map(lambda pair: float("nan") * pair), folder / "nan")
    add_row(folder, "nan,1,a,c")
    report = run(folder)
    assert "'m.0.q_proj' holds NaN or Inf" in report.left_out["nan"]


def test_a_convolution_keeps_its_kernel(folder, generator):
    pair = random_pair(4, 18, 2, generator, torch.float32, kernel=(3, 3))
    layers = {"m.0.conv": pair, "m.0.q_proj": random_pair(6, 5, 2, generator, torch.float32)}
    lora = LoRA(layers, {}, Provenance(kinds={"m.0.conv": "conv"}))
    write_lora(lora, folder / "conv")
    add_row(folder, "conv,1,a,c")
    zoo = run(folder).zoo
    assert zoo.lora(zoo.row_of(4))["m.0.conv"].kernel == (3, 3)


def test_what_cannot_be_read_or_does_not_fit_is_told(folder, generator):
    write_lora(make_lora(generator, n=7), folder / "wide")
    (folder / "broken.safetensors").write_bytes(b"junk")
    for name in ("wide", "broken.safetensors", "nowhere", "../outside"):
        add_row(folder, f"{name},1,a,c")
    report = run(folder)
    assert report.taken == 4
    assert set(report.left_out) == {"wide", "broken.safetensors", "nowhere", "../outside"}
    assert "'m.0.q_proj' is 7 x 5, in most of the collection 6 x 5" in report.left_out["wide"]
    assert "leads out" in report.left_out["../outside"]
    lines = (report.zoo.path / "build.jsonl").read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    assert {event["file"] for event in logged} == set(report.left_out)


def test_loras_of_other_architectures_are_told_apart(folder, generator):
    """Two of them, which share layers with each other: still no part of the collection."""
    for name, layers in (("one", ("x.to_q", "x.to_v")), ("two", ("x.to_v",))):
        write_lora(make_lora(generator, layers=layers), folder / name)
        add_row(folder, f"{name},1,a,c")
    report = run(folder)
    assert report.taken == 4
    assert set(report.left_out) == {"one", "two"}
    assert "no layer of most of the collection, such as 'm.0.q_proj'" in report.left_out["two"]
    assert "'x.to_v'" in report.left_out["two"]


def test_missing_layers_are_allowed(folder, generator):
    write_lora(make_lora(generator, layers=("m.0.q_proj",)), folder / "part")
    add_row(folder, "part,1,a,c")
    zoo = run(folder).zoo
    assert set(zoo.lora(4)) == {"m.0.q_proj"}
    assert zoo.batch().present.sum(1).tolist() == [2, 2, 2, 2, 1]


def test_an_interrupted_import_resumes_to_the_same_bytes(folder, monkeypatch):
    monkeypatch.setattr(ingest, "SHARD_BYTES", 100)
    whole = run(folder).zoo
    before = {p.name: p.read_bytes() for p in (whole.path / "shards").iterdir()}
    assert len(before) == 8
    index = (whole.path / "index.parquet").read_bytes()
    (whole.path / "shards/shard-00001.parquet").unlink()
    (whole.path / "index.parquet").unlink()
    again = run(folder).zoo
    assert {p.name: p.read_bytes() for p in (again.path / "shards").iterdir()} == before
    assert (again.path / "index.parquet").read_bytes() == index


def test_nothing_to_import(folder, tmp_path):
    with pytest.raises(FileError, match="is no folder"):
        import_zoo(tmp_path / "nowhere", tmp_path / "labels.csv", tmp_path / "zoo")
    (tmp_path / "labels.csv").write_text("file,score\nx,1\ny,2\n")
    with pytest.raises(DataError, match="none of the 2 files"):
        run(folder)
