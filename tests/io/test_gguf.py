"""The container, written by the gguf package: every type, and files that lie."""

import struct
import sys

import gguf
import numpy as np
import pytest
import torch

from lorascope.errors import FormatError, HostileFileError, IntegrityError, MissingExtraError
from lorascope.io.gguf import read_gguf

VALUES = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
TYPES = gguf.GGMLQuantizationType


def write(path, kind=TYPES.F32, values=VALUES):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_array("tokens", [1, 2, 3])
    writer.add_bool("flag", True)
    raw = gguf.quants.quantize(values, kind)
    writer.add_tensor("a", raw, raw_dtype=kind)
    writer.add_tensor("b", np.ones(3, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", [TYPES.F32, TYPES.F16, TYPES.BF16, TYPES.Q8_0, TYPES.Q4_0])
def test_every_type_as_the_package_dequantises_it(tmp_path, kind):
    file = read_gguf(write(tmp_path / "a.gguf", kind))
    expected = gguf.quants.dequantize(gguf.quants.quantize(VALUES, kind), kind)
    np.testing.assert_array_equal(file.tensors["a"].float().numpy(), expected)
    assert file.tensors["b"].tolist() == [1, 1, 1]
    assert file.fields["tokens"] == [1, 2, 3]
    assert file.fields["flag"] is True


def test_the_extra_is_named_only_where_it_is_needed(tmp_path, monkeypatch):
    plain, packed = write(tmp_path / "a.gguf"), write(tmp_path / "b.gguf", TYPES.Q8_0)
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert read_gguf(plain).tensors["a"].shape == (4, 64)
    with pytest.raises(MissingExtraError, match=r"lorascope\[gguf\]"):
        read_gguf(packed)


def header(version=3, tensors=0, pairs=0, rest=b""):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + rest


def string(text):
    return struct.pack("<Q", len(text)) + text


def info(name=b"a", dims=(4,), kind=0, offset=0):
    sizes = struct.pack(f"<{len(dims)}Q", *dims)
    return string(name) + struct.pack("<I", len(dims)) + sizes + struct.pack("<IQ", kind, offset)


@pytest.mark.parametrize(
    ("raw", "error", "message"),
    [
        (b"GGML", FormatError, "no GGUF file"),
        (header(version=9), FormatError, "version 9"),
        (header(tensors=1 << 40), HostileFileError, "tensors"),
        (header(pairs=1 << 40), HostileFileError, "key-values"),
        (header(pairs=1), IntegrityError, "cut short"),
        (header(pairs=1, rest=struct.pack("<Q", 1 << 50)), HostileFileError, "a string claims"),
        (header(pairs=1, rest=string(b"\xff")), FormatError, "no UTF-8"),
        (header(pairs=1, rest=string(b"k") + struct.pack("<I", 77)), FormatError, "unknown type 77"),
        (header(pairs=1, rest=string(b"k") + struct.pack("<IIQ", 9, 0, 1 << 40)), HostileFileError,
         "an array claims"),
        (header(pairs=1, rest=string(b"k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5), FormatError,
         "unknown type"),
        (header(pairs=1, rest=string(b"general.alignment") + struct.pack("<II", 4, 0)), FormatError,
         "alignment"),
        (header(tensors=1, rest=info(dims=(1,) * 9)), FormatError, "9 dimensions"),
        (header(tensors=2, rest=info() + info()), FormatError, "stands twice"),
        (header(tensors=1, rest=info(dims=(1 << 50, 1 << 50))), HostileFileError, "larger than any memory"),
        (header(tensors=1, rest=info(dims=(1 << 20,))), IntegrityError, "cut short"),
        (header(tensors=1, rest=info(kind=999)), FormatError, "type 999 is unknown"),
        (header(tensors=1, rest=info(dims=(5,), kind=8)), FormatError, "no multiple of blocks"),
        (header(tensors=1, rest=info(name=b"../a")), HostileFileError, "is a path"),
    ],
)  # fmt: skip
def test_files_that_lie(tmp_path, raw, error, message):
    (tmp_path / "a.gguf").write_bytes(raw)
    with pytest.raises(error, match=message):
        read_gguf(tmp_path / "a.gguf")


def test_an_empty_tensor(tmp_path):
    (tmp_path / "a.gguf").write_bytes(header(tensors=1, rest=info(dims=(0,)) + b"\0" * 64))
    assert read_gguf(tmp_path / "a.gguf").tensors["a"].shape == torch.Size([0])
