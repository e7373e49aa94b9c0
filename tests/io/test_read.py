"""Finding the file, naming the dialect, and the real adapters of a folder."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorascope.errors import FileError, FormatError, HostileFileError
from lorascope.io.dialects.table import MARKS
from lorascope.io.read import FORMATS, Found, read_lora, sniff
from tests.io.accounting import values_in, values_of

M = "base_model.model.m.q_proj"
PAIR = {f"{M}.lora_A.weight": torch.ones(1, 3), f"{M}.lora_B.weight": torch.ones(2, 1)}
CONFIG = '{"peft_type": "LORA", "r": 1, "lora_alpha": 2}'


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file(PAIR, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(CONFIG)
    return folder


def test_folder_and_file(folder):
    file = folder / "adapter_model.safetensors"
    for path in (folder, str(folder), file):
        lora = read_lora(path)
        assert lora["m.q_proj"].u.tolist() == [[2.0], [2.0]]
        assert lora.provenance.source == str(file)
        assert sniff(path) == Found("peft", file, "safetensors", folder / "adapter_config.json")


def test_a_file_of_any_name(folder):
    other = folder / "renamed.safetensors"
    (folder / "adapter_model.safetensors").rename(other)
    assert read_lora(other)["m.q_proj"].u.tolist() == [[2.0], [2.0]]


def test_factors_in_another_type(folder):
    assert read_lora(folder, dtype=torch.float64)["m.q_proj"].dtype == torch.float64


def test_pickles_need_a_flag(folder):
    (folder / "adapter_model.safetensors").unlink()
    torch.save(PAIR, folder / "adapter_model.bin")
    with pytest.raises(HostileFileError, match="allow_pickle=True"):
        read_lora(folder)
    assert read_lora(folder, allow_pickle=True)["m.q_proj"].u.tolist() == [[2.0], [2.0]]
    assert sniff(folder).container == "pickle"


def test_a_pickle_of_something_else(folder):
    torch.save({"x": torch.ones(1)}, folder / "model.pt")
    with pytest.raises(FormatError, match="none of its 1 keys names a factor"):
        read_lora(folder / "model.pt", allow_pickle=True)


def test_a_page_named_as_a_pickle_is_named(tmp_path):
    (tmp_path / "adapter_model.bin").write_text("<html>404</html>")
    with pytest.raises(FormatError, match="web page"):
        read_lora(tmp_path)


def test_what_is_not_there(tmp_path):
    with pytest.raises(FormatError, match="no such file or folder"):
        read_lora(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FormatError, match=r"found \['notes.txt'\], expected adapter_model"):
        read_lora(tmp_path)


def test_adapters_in_folders_below_are_named(folder):
    with pytest.raises(FormatError, match=r"holds adapters in the folders \['adapter'\]"):
        read_lora(folder.parent)


def test_files_that_hold_no_lora(tmp_path):
    save_file({"model.embed_tokens.weight": torch.ones(2, 2)}, tmp_path / "file.safetensors")
    with pytest.raises(FormatError, match=r"the first is 'model\.embed_tokens\.weight'"):
        read_lora(tmp_path / "file.safetensors")
    save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(FormatError, match="none of its 0 keys"):
        read_lora(tmp_path / "empty.safetensors")


def test_an_alpha_in_the_file_is_another_program_s(tmp_path):
    save_file(PAIR | {f"{M}.alpha": torch.tensor(4.0)}, tmp_path / "file.safetensors")
    with pytest.raises(FormatError, match="holds an alpha"):
        read_lora(tmp_path / "file.safetensors")


def test_the_table_of_formats():
    assert set(FORMATS) == set(MARKS)


REAL = os.environ.get("LORASCOPE_REAL_FILES")


@pytest.mark.skipif(REAL is None, reason="LORASCOPE_REAL_FILES names no folder of real files")
def test_real_files():
    """Every real file is read, or refused with an error of ours; the PEFT adapters are read."""
    weights = [
        p for p in sorted(Path(REAL).rglob("*")) if p.suffix in {".safetensors", ".bin", ".pt"}
    ]
    assert weights
    read, refused = {}, {}
    for path in weights:
        try:
            read[path.name] = read_lora(path, allow_pickle=True)
        except FileError as error:
            refused[path] = str(error)
    assert all(str(path) in message for path, message in refused.items())
    assert all(path.parent.name.startswith("hostile") for path in refused)
    assert {lora.provenance.format for lora in read.values()} == {
        "peft", "diffusers", "lycoris", "cloneofsimo"}  # fmt: skip
    for name, lora in read.items():
        if name.endswith(".safetensors"):
            (path,) = [path for path in weights if path.name == name]
            assert values_of(lora) == values_in(load_file(path))
    lora = read["adapter_model.safetensors"]
    assert (len(lora), lora.max_rank, lora.provenance.base) == (24, 1, "cyberagent/open-calm-1b")
    name = "gpt_neox.layers.23.attention.query_key_value"
    scale = lora.provenance.scales[name]
    assert (scale.alpha, scale.factor, lora[name].shape) == (32.0, 32.0, (6144, 2048))
    assert (lora.provenance.ambiguities, lora[name].dtype) == ((), torch.float32)
    assert read["smart_falcon_4_lokr.safetensors"].max_rank == 16
