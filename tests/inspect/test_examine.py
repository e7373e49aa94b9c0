import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lorascope.inspect.examine import examine
from lorascope.inspect.problem import Severity
from lorascope.io.header import read_header
from tests.inspect.files import write_kohya, write_peft


def test_a_good_file_has_facts(tmp_path):
    result = examine(write_peft(tmp_path / "a"))
    assert (result.outcome, result.worst()) == ("exact", None)
    assert result.to_json()["outcome"] == "exact"
    assert examine(tmp_path / "a", headers=True).outcome == "header"


def test_a_file_without_its_configuration_is_ambiguous(tmp_path):
    folder = write_peft(tmp_path / "a")
    (folder / "adapter_config.json").unlink()
    result = examine(folder)
    assert result.outcome == "ambiguous"
    assert result.worst() is Severity.WARNING


def test_a_refusal_is_a_result(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"<html>")
    for headers in (False, True):
        result = examine(tmp_path / "x.safetensors", headers=headers)
        assert (result.outcome, result.facts, result.worst()) == ("refused", None, Severity.ERROR)
        document = result.to_json()
        assert document["problems"][0]["code"] == "web-page"
        assert document["error"] == document["problems"][0]["sentence"]


def test_metadata_that_contradicts_is_told_in_both_ways(tmp_path):
    told = {"ss_network_dim": "128", "ss_base_model_version": "sdxl_base_v1-0"}
    path = write_kohya(tmp_path / "a.safetensors", metadata=told)
    for headers in (False, True):
        codes = [problem.code for problem in examine(path, headers=headers).problems]
        assert "metadata-contradicts" in codes
        assert "base-contradicts" in codes


def test_untrained_and_broken_files_are_told(tmp_path):
    path = write_kohya(tmp_path / "a.safetensors")
    tensors = load_file(path)
    save_file({k: t * 0 if "up" in k else t for k, t in tensors.items()}, path)
    assert "untrained" in [p.code for p in examine(path).problems]
    save_file({k: t * torch.nan for k, t in tensors.items()}, path)
    assert examine(path).problems[0].severity is Severity.ERROR


@pytest.mark.parametrize(
    ("write", "share"), [(write_peft, 0.55), (write_kohya, 0.45), (write_peft, 1), (write_kohya, 1)]
)
def test_a_file_whose_end_is_zeros_was_cut_not_untrained(tmp_path, write, share):
    path = write(tmp_path / "a.safetensors")
    weights = path / "adapter_model.safetensors" if path.is_dir() else path
    data = read_header(weights).data_start
    whole = weights.read_bytes()
    cut = data + int((1 - share) * (len(whole) - data))
    weights.write_bytes(whole[:cut].ljust(len(whole), b"\0"))
    problem, *others = examine(path).problems
    assert (problem.code, problem.severity) == ("zero-filled", Severity.ERROR)
    assert "download" in problem.sentence
    assert len(problem.layers) == (len(examine(path).facts.layers) if share == 1 else 1)
    assert not {"untrained", "zero-layers"} & {other.code for other in others}


def test_files_without_such_a_header_are_answered_too(tmp_path):
    factors = {"q.lora_a": np.ones((6, 2), "f4"), "q.lora_b": np.ones((2, 4), "f4")}
    np.savez(tmp_path / "a.npz", **factors)
    found = examine(tmp_path / "a.npz", headers=True)
    assert (found.outcome, found.facts.format, found.facts.measured) == ("ambiguous", "mlx", True)
    tensors = {"x.lora_A.weight": torch.ones(2, 4), "x.lora_B.weight": torch.ones(6, 2)}
    torch.save(tensors, tmp_path / "a.pt")
    for headers in (True, False):
        refused = examine(tmp_path / "a.pt", headers=headers)
        assert (refused.outcome, refused.problems[0].code) == ("refused", "pickle")
        assert "--allow-pickle" in refused.problems[0].sentence
    assert examine(tmp_path / "a.pt", headers=True, allow_pickle=True).facts.format == "peft"
