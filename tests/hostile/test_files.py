"""Every hostile file is refused, by its own message, in time and without memory for what it claims."""

import contextlib
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorascope import errors
from lorascope.errors import FileError
from lorascope.io.header import read_header
from lorascope.io.read import read_lora
from tests.hostile.files import ADAPTERS, HEADERS, pair, write_adapter, write_header

SECONDS = 2.0


@pytest.mark.parametrize("story", HEADERS)
@pytest.mark.parametrize("ask", [read_header, read_lora])
def test_hostile_headers(story, ask, tmp_path):
    _, error, message = HEADERS[story]
    path = write_header(story, tmp_path)
    start = time.perf_counter()
    with pytest.raises(getattr(errors, error), match=message) as caught:
        ask(path)
    assert time.perf_counter() - start < SECONDS
    assert repr(str(path)) in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("story", ADAPTERS)
def test_hostile_adapters(story, tmp_path):
    *_, error, message = ADAPTERS[story]
    folder = write_adapter(story, tmp_path)
    start = time.perf_counter()
    with pytest.raises(getattr(errors, error), match=message) as caught:
        read_lora(folder)
    assert time.perf_counter() - start < SECONDS
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_the_good_file_that_the_adapters_vary_is_read(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(pair())
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "lora_alpha": 1, "r": 1}')
    lora = read_lora(tmp_path)
    assert (list(lora), lora.provenance.ambiguities) == (["m.q_proj"], ())


def test_every_story_is_told():
    text = (Path(__file__).parent / "README.md").read_text()
    missing = [story for story in (*HEADERS, *ADAPTERS) if f"**{story}**" not in text]
    assert missing == []


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_files_raise_only_our_errors(tmp_path_factory, data):
    """Flip, cut, insert anywhere in a good file: it is read, or refused with an error of the tree."""
    raw = bytearray(pair(a=(2, 3), b=(3, 2)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        action = data.draw(st.sampled_from(["set", "cut", "insert", "swap"]))
        if action == "set":
            raw[place] = data.draw(st.integers(0, 255))
        elif action == "cut":
            del raw[place : place + data.draw(st.integers(1, 8))]
        elif action == "insert":
            raw[place:place] = data.draw(
                st.sampled_from([b"9", b"{", b"]", b'"', b",", b"\0", b"-", b"1e9"])
            )
        else:
            other = data.draw(st.integers(0, len(raw) - 1))
            raw[place], raw[other] = raw[other], raw[place]
        if not raw:
            break
    path = tmp_path_factory.mktemp("mutated") / "file.safetensors"
    path.write_bytes(raw)
    with contextlib.suppress(FileError):  # any other exception fails the test
        read_lora(path)
