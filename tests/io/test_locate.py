import subprocess
import sys

import pytest

from lorascope.errors import FormatError, HostileFileError, IntegrityError
from lorascope.io import read_lora
from lorascope.io.locate import locate


def test_the_container_is_told_by_name_and_first_bytes(tmp_path):
    for name, start, container in [
        ("a.safetensors", b"GGUF", "safetensors"),
        ("a.gguf", b"GGUF", "gguf"),
        ("a.npz", b"PK", "npz"),
        ("a.pt", b"PK", "pickle"),
        ("a.bin", b"<html>", "safetensors"),
    ]:
        (tmp_path / name).write_bytes(start)
        found = locate(tmp_path / name, allow_pickle=True)
        assert (found.container, found.config) == (container, None)


def test_pickles_are_refused_with_the_flag(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"PK")
    with pytest.raises(HostileFileError, match=r"allow_pickle=True \(--allow-pickle\)"):
        locate(tmp_path / "a.pt", allow_pickle=False)


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz", "a.pt", "a.gguf"])
def test_empty_files_are_called_empty(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(IntegrityError, match="it has 0 bytes"):
        read_lora(tmp_path / name)


def test_a_folder_without_weights(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(FormatError, match=r"found \['adapter_config.json'\]"):
        locate(tmp_path, allow_pickle=False)
    (tmp_path / "adapter_model.safetensors").touch()
    assert locate(tmp_path, allow_pickle=False).config == tmp_path / "adapter_config.json"


def test_no_tensor_library_is_loaded():
    code = "import sys, lorascope.io.locate; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
