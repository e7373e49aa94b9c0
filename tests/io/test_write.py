"""Writing: complete or not at all, never over what is there unless asked."""

import json
import os

import pytest
import torch
from safetensors import safe_open

from lorascope.core import LoRA, LowRank
from lorascope.errors import FileError, FormatError
from lorascope.io import write
from lorascope.io.read import read_lora
from lorascope.io.write import write_lora

NAME = "m.q_proj"
FILES = ["adapter_config.json", "adapter_model.safetensors"]


def lora(value=1.0):
    return LoRA({NAME: LowRank(torch.full((2, 1), value), torch.ones(3, 1))})


def test_a_new_folder(tmp_path):
    folder = tmp_path / "deep" / "adapter"
    assert write_lora(lora(), str(folder)) == folder
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["adapter"]
    assert read_lora(folder).provenance.writer.startswith("lorascope ")
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"
    assert json.loads((folder / "adapter_config.json").read_text())["peft_type"] == "LORA"


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_the_umask_says_who_may_read_it(tmp_path, umask):
    before = os.umask(umask)
    try:
        folder = write_lora(lora(), tmp_path / "adapter")
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o777 & ~umask
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o666 & ~umask}


def test_the_same_lora_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_lora(lora(), tmp_path / name)
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_what_is_there_stays_unless_asked(tmp_path):
    write_lora(lora(), tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match=r"found adapter_model\.safetensors there"):
        write_lora(lora(2.0), tmp_path)
    assert read_lora(tmp_path)[NAME].u[0, 0] == 1
    write_lora(lora(2.0), tmp_path, overwrite=True)
    assert read_lora(tmp_path)[NAME].u[0, 0] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [*FILES, "notes.txt"]


@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_leaves_nothing(tmp_path, monkeypatch, existing):
    folder = tmp_path / "adapter"
    if existing:
        write_lora(lora(), folder)

    def fail(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "write_safetensors", fail)
    with pytest.raises(FileError, match="No space left"):
        write_lora(lora(2.0), folder, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == (["adapter"] if existing else [])
    if existing:
        assert read_lora(folder)[NAME].u[0, 0] == 1


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError):
        write_lora(lora(), tmp_path / "file")


def test_unknown_formats_are_refused(tmp_path):
    with pytest.raises(FormatError, match="unknown format 'ggml', expected peft"):
        write_lora(lora(), tmp_path, format="ggml")


def test_layers_that_share_memory(tmp_path):
    pair = LowRank(torch.ones(2, 1), torch.ones(3, 1))
    write_lora(LoRA({"m.q_proj": pair, "m.k_proj": pair}), tmp_path)
    assert torch.equal(read_lora(tmp_path)["m.k_proj"].u, pair.u)
