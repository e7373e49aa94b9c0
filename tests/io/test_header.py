"""The header reader: what good files say, and that it reaches no tensor library. Refusals are in hostile/."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from lorascope.errors import FormatError
from lorascope.io.header import ITEM_BYTES, TensorInfo, read_header


def test_it_reads_what_the_library_writes(tmp_path):
    path = tmp_path / "file.safetensors"
    tensors = {
        "b": torch.zeros(2, 3),
        "a": torch.zeros(4, dtype=torch.float16),
        "empty": torch.zeros(0, 5),
        "scalar": torch.tensor(1.0, dtype=torch.float64),
    }
    save_file(tensors, path, {"format": "pt", "ünï": "cödé"})
    header = read_header(path)
    assert header.metadata == {"format": "pt", "ünï": "cödé"}
    assert header.file_bytes == path.stat().st_size
    for name, tensor in tensors.items():
        info = header.tensors[name]
        assert info.shape == tuple(tensor.shape)
        assert info.nbytes == tensor.nbytes
    assert header.tensors["a"].dtype == "F16"
    total = max(info.end for info in header.tensors.values())
    assert header.data_start + total == header.file_bytes


@pytest.mark.parametrize(
    "dtype",
    [
        torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32,
        torch.uint64, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64,
        torch.float8_e4m3fn, torch.float8_e5m2,
    ],
    ids=str,
)  # fmt: skip
def test_sizes_of_types(tmp_path, dtype):
    path = tmp_path / "file.safetensors"
    save_file({"x": torch.zeros(3, dtype=dtype)}, path)
    info = read_header(path).tensors["x"]
    assert ITEM_BYTES[info.dtype] == dtype.itemsize
    assert info == TensorInfo(info.dtype, (3,), 0, 3 * dtype.itemsize)


def test_golden_bytes(tmp_path):
    text = b'{"w":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}}'
    path = tmp_path / "golden.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\x01\x02")
    header = read_header(str(path))
    assert dict(header.tensors) == {"w": TensorInfo("I8", (2,), 0, 2)}
    assert (header.metadata, header.data_start, header.file_bytes) == ({}, 61, 63)


def test_a_header_that_begins_like_a_pickle_is_read(tmp_path):
    """A header of 640 bytes puts 0x80 0x02, the first bytes of a pickle, at the start of the file."""
    text = (
        json.dumps({"w": {"dtype": "I8", "shape": [1], "data_offsets": [0, 1]}}).encode().ljust(640)
    )
    path = tmp_path / "file.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\x00")
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert list(read_header(path).tensors) == ["w"]


def test_brackets_in_strings_do_not_count(tmp_path):
    path = tmp_path / "file.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"tags": '{"a": [[[[[[1, "\\""]]]]]]}' * 100_000})
    assert list(read_header(path).tensors) == ["x"]


def test_the_maps_are_read_only(tmp_path):
    path = tmp_path / "file.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(TypeError):
        read_header(path).tensors["y"] = None


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(FormatError, match="No such file"):
        read_header(tmp_path / "absent.safetensors")
    with pytest.raises(FormatError, match="no regular file"):
        read_header(tmp_path)
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(FormatError, match="no regular file"):
        read_header(tmp_path / "pipe.safetensors")


def test_a_file_that_may_not_be_opened(tmp_path, monkeypatch):
    path = tmp_path / "file.safetensors"
    save_file({"x": torch.zeros(1)}, path)

    def refuse(*_args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)  # the superuser may open anything
    with pytest.raises(FormatError, match="Permission denied"):
        read_header(path)


def test_no_tensor_library_is_reached():
    code = (
        "import sys, lorascope.io.header\n"
        "print(sorted({'torch', 'numpy', 'safetensors', 'pyarrow'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_metadata_that_are_null_are_none(tmp_path):
    """MLX saves adapters so."""
    text = b'{"__metadata__":null,"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    assert (read_header(path).metadata, list(read_header(path).tensors)) == ({}, ["x"])
