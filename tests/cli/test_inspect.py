import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file


def test_one_adapter_is_reported(run, adapter):
    code, out, err = run("inspect", adapter)
    assert (code, err) == (0, "")
    assert "3 layers, rank 2" in out
    assert "model.layers.*.q_proj" in out
    assert "█" in out
    assert "model.layers.1.q_proj" in run("inspect", "--layers", adapter)[1]


def test_json_is_one_document(run, adapter):
    code, out, err = run("inspect", "--json", adapter)
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["schema"] == "lorascope.inspect/1"
    assert [file["path"] for file in document["files"]] == [str(adapter)]
    assert len(document["files"][0]["layers"]) == 3
    assert document["files"][0]["layers"][0]["scale"]["factor"] == 2.0


def test_a_broken_adapter_ends_with_one(run, adapter):
    weights = adapter / "adapter_model.safetensors"
    tensors = load_file(weights)
    save_file({name: torch.full_like(t, torch.nan) for name, t in tensors.items()}, weights)
    code, out, _ = run("inspect", adapter)
    assert code == 1
    assert "not-finite" in out


def test_a_refused_file_among_many_costs_its_own_line(run, adapter):
    for name in ("b-good", "a-good"):
        shutil.copytree(adapter, adapter.parent / "many" / name)
    (adapter.parent / "many" / "c-bad.safetensors").write_bytes(b"<!DOCTYPE html>")
    code, out, err = run("inspect", adapter.parent / "many")
    assert code == 2
    assert out.index("a-good") < out.index("b-good")
    assert err.startswith("3/3 refused: ")
    assert "c-bad.safetensors" in err
    code, out, _ = run("inspect", "--json", adapter.parent / "many")
    files = json.loads(out)["files"]
    assert code == 2
    assert ["error" in file for file in files] == [False, False, True]


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"\x00" * 100]
)
def test_a_refused_file_is_one_message(run, tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    code, out, err = run("inspect", path)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert "x.safetensors" in err
    assert err.count("\n") == 1
