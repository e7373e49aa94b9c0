"""Reading values: equal to the library's, without mapping the file; pickles only of plain tensors."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lorascope.errors import FormatError, HostileFileError, IntegrityError, LorascopeError
from lorascope.io import tensors as module
from lorascope.io.tensors import DTYPES, read_pickle, read_safetensors, write_safetensors


def test_values_are_those_of_the_library(tmp_path):
    path = tmp_path / "file.safetensors"
    written = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES.values()}
    written |= {"empty": torch.zeros(0, 4), "scalar": torch.tensor(2.0)}
    save_file(written, path, {"who": "me"})
    file = read_safetensors(path)
    assert file.metadata == {"who": "me"}
    expected = load_file(path)
    assert set(file.tensors) == set(expected)
    for name, tensor in expected.items():
        got = file.tensors[name]
        assert got.dtype == tensor.dtype
        assert got.shape == tensor.shape
        assert (
            got.view(torch.uint8).tolist() == tensor.view(torch.uint8).tolist()
            if got.ndim
            else got == tensor
        )


def test_written_files_are_read_by_the_library(tmp_path):
    written = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype).T for dtype in DTYPES.values()}
    written |= {
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(2.0, requires_grad=True),
        "ünï": torch.ones(3),
    }
    metadata = {"format": "pt", "b": "ä", "a": '"'}
    contents = set()
    for number in range(3):
        path = tmp_path / f"{number}.safetensors"
        write_safetensors(path, dict(sorted(written.items(), reverse=number == 1)), metadata)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    with safe_open(path, "pt") as file:
        assert file.metadata() == metadata
    for read in (load_file(path), read_safetensors(path).tensors):
        assert set(read) == set(written)
        for name, tensor in written.items():
            assert read[name].dtype == tensor.dtype
            assert read[name].double().tolist() == tensor.double().tolist()
    # laid out as the library does
    save_file(
        {"b": torch.ones(3), "a": torch.ones(1).half(), "c": torch.ones(2)},
        tmp_path / "theirs",
        {"x": "y"},
    )
    write_safetensors(
        tmp_path / "ours",
        {"a": torch.ones(1).half(), "c": torch.ones(2), "b": torch.ones(3)},
        {"x": "y"},
    )
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_tensors_that_lie_askew(tmp_path):
    """Offsets need not be multiples of the item size."""
    entries = {
        "a": {"dtype": "I8", "shape": [1], "data_offsets": [0, 1]},
        "b": {"dtype": "F64", "shape": [2], "data_offsets": [1, 17]},
    }
    text = json.dumps(entries).encode()
    values = torch.tensor([1.5, -2.5], dtype=torch.float64)
    path = tmp_path / "file.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\x07" + values.numpy().tobytes())
    file = read_safetensors(path)
    assert file.tensors["a"].tolist() == [7]
    assert torch.equal(file.tensors["b"], values)


def test_values_survive_the_file(tmp_path):
    path = tmp_path / "file.safetensors"
    save_file({"x": torch.ones(100_000)}, path)
    tensor = read_safetensors(path).tensors["x"]
    path.write_bytes(b"")  # a mapped file that shrinks would kill the process here
    assert float(tensor.sum()) == 100_000


def test_a_file_that_shrinks_while_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "file.safetensors"
    save_file({"x": torch.ones(10_000)}, path)
    parse = module.parse_header

    def cut(file, where):
        header = parse(file, where)
        with path.open("r+b") as other:
            other.truncate(header.data_start + 9)
        return header

    monkeypatch.setattr(module, "parse_header", cut)
    with pytest.raises(IntegrityError, match="shrank from 40000"):
        read_safetensors(path)


def test_pickles_of_plain_tensors(tmp_path):
    for name, options in (("new.bin", {}), ("old.bin", {"_use_new_zipfile_serialization": False})):
        path = tmp_path / name
        weight = torch.nn.Parameter(torch.randn(3, 4))
        torch.save({"x": weight, "y": torch.ones(2)[::2]}, path, **options)
        file = read_pickle(path)
        assert torch.equal(file.tensors["x"], weight)
        assert not file.tensors["x"].requires_grad
        assert file.tensors["y"].tolist() == [1.0]


class Trap:
    """Would write a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickles_that_run_code_do_not(tmp_path):
    torch.save({"x": Trap(tmp_path / "owned")}, tmp_path / "trap.bin")
    with pytest.raises(HostileFileError, match="asks for more than plain tensors"):
        read_pickle(tmp_path / "trap.bin")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.ones(1)], "pickled list"),
        ({1: torch.ones(1)}, "found the key 1"),
        ({"x": 3.0}, "found a float, expected a dense tensor"),
        ({"x": torch.ones(2, 2).to_sparse()}, "expected a dense tensor"),
        ({"x": torch.ones(2, dtype=torch.complex64)}, "expected numbers"),
        ({"../x": torch.ones(1)}, "is a path"),
        ({"x": torch.ones(1).expand(10**6, 10**6)}, "the file holds 4"),
        ({"x": torch.ones(1).expand([1] * 9)}, "9 dimensions"),
    ],
)
def test_pickles_of_other_things_are_refused(tmp_path, value, message):
    torch.save(value, tmp_path / "file.bin")
    with pytest.raises(LorascopeError, match=message):
        read_pickle(tmp_path / "file.bin")


def test_pickles_are_capped(tmp_path, monkeypatch):
    torch.save({"x": torch.ones(1)}, tmp_path / "file.bin")
    monkeypatch.setattr(module, "MAX_PICKLE_BYTES", 10)
    with pytest.raises(HostileFileError, match="at most 10 in a pickle"):
        read_pickle(tmp_path / "file.bin")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1", "LFS pointer"),
        (b"<html>", "web page"),
        (b"garbage", "cannot be unpickled"),
        (b"", "cannot be unpickled"),
        (b"PK\x03\x04 and no more", "cannot be unpickled"),
    ],
)
def test_what_is_no_pickle_is_named(tmp_path, content, message):
    (tmp_path / "file.bin").write_bytes(content)
    with pytest.raises(FormatError, match=message):
        read_pickle(tmp_path / "file.bin")
