import shutil

import pytest
import torch

from lorascope.compiled import (
    Unavailable,
    address,
    addresses,
    compiled,
    compiler_version,
    integers,
    wide_kernel,
)


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path))
    compiled.cache_clear()
    yield tmp_path / "kernels"
    compiled.cache_clear()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_kernel_is_compiled_once(fresh):
    assert compiled("one_read", threads=True).one_read
    (made,) = fresh.iterdir()
    assert made.name.startswith("one_read-")
    before = made.stat().st_mtime_ns
    compiled.cache_clear()
    compiled("one_read", threads=True)
    assert [made.stat().st_mtime_ns] == [before]


def test_without_a_compiler_it_is_unavailable(fresh, monkeypatch):
    monkeypatch.setenv("CC", "/no/such/compiler")
    with pytest.raises(Unavailable):
        compiled("one_read")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_compiler_may_have_arguments(fresh, monkeypatch):
    monkeypatch.setenv("CC", "cc -DNOTHING")
    assert compiled("one_read", threads=True).one_read


def test_addresses_are_those_of_the_numbers():
    x = torch.arange(4.0)
    assert address(x).value == x.data_ptr()
    assert address(None).value is None
    assert list(addresses([x, None, x[1:]])) == [x.data_ptr(), 0, x.data_ptr() + 4]
    assert list(integers(3, -1)) == [3, -1]


def test_a_wide_kernel_is_the_function_of_its_name_or_another():
    if wide_kernel("likeness", "apart") is None:
        pytest.skip("no C compiler, or a processor that it is not for")
    assert wide_kernel("likeness", "alike").__name__ == "alike"
    assert wide_kernel("one_read").__name__ == "one_read"


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_compiler_says_its_version_in_a_line(monkeypatch):
    assert compiler_version()
    assert "\n" not in compiler_version()
    monkeypatch.setenv("CC", "/no/such/compiler")
    assert compiler_version() == ""
