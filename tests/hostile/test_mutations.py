"""Valid files of every format, changed in every part: each is read or refused, in time and within memory."""

import gc
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from lorascope.io.header import read_header
from tests.hostile.survival import peak, restart_peak, survive
from tests.hostile.valid import NAMES, SAFETENSORS, write

# about a minute of them in all
EXAMPLES = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
PIECES = [b"", b"\0", b"\xff" * 8, b"9", b"{", b"]", b'"', b",", b"-", b"1e9", b"nan", b"../"]
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 6, 2**20, 2**40]), max_size=5)
TYPES = ["F16", "BF16", "F32", "F64", "I64", "U8", "BOOL", "F8_E4M3", "F4"]
TEXTS = [
    "",
    "nan",
    "-1",
    "1e999",
    "{",
    "[" * 5000,
    '{"a": 1}',
    "null",
    "x" * 5000,
    "\x1b[2J",
    "🙂",
    "[[]]",
]


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """format -> the folder and the name of its valid file."""
    places = {}
    for place, name in enumerate(NAMES):
        folder = tmp_path_factory.mktemp(f"valid-{place}")
        places[name] = folder, write(name, folder).name
    return places


@pytest.mark.parametrize("name", NAMES)
def test_the_valid_file_is_read(valid, name):
    folder, file = valid[name]
    result = survive(folder / file)
    assert result.outcome != "refused", result.problems


@pytest.mark.parametrize("name", NAMES)
@EXAMPLES
@given(data=st.data())
def test_bytes_may_be_anything(valid, name, data):
    """Set, cut, insert and double pieces anywhere, or cut the file short."""
    path = copy(valid[name])
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw)))
        end = place + data.draw(st.sampled_from([0, 0, 1, 2, 8, 64, 2**30]))
        piece = data.draw(st.sampled_from(PIECES) | st.binary(min_size=1, max_size=4))
        raw[place:end] = piece
    path.write_bytes(raw)
    event(survive(path).outcome)


@pytest.mark.parametrize("name", [*SAFETENSORS, "peft", "peft loha", "peft lokr", "mlx"])
@EXAMPLES
@given(data=st.data())
def test_headers_may_say_anything(valid, name, data):
    """Other names, shapes, types, metadata; tensors that are gone or that are too many. The bytes fit."""
    path = copy(valid[name])
    header = read_header(path)
    entries = [[key, info.dtype, list(info.shape)] for key, info in header.tensors.items()]
    metadata = dict(header.metadata)
    for _ in range(data.draw(st.integers(1, 3))):
        change(data, entries, metadata)
    path.write_bytes(packed(entries, metadata))
    event(survive(path).outcome)


@pytest.mark.parametrize("name", ["peft", "peft loha", "peft lokr", "mlx"])
@EXAMPLES
@given(data=st.data())
def test_configurations_may_say_anything(valid, name, data):
    path = copy(valid[name])
    beside = path.parent / "adapter_config.json"
    config = json.loads(beside.read_text())
    key = data.draw(
        st.sampled_from(sorted(config)) | st.sampled_from(["rank_pattern", "use_rslora", "bias"])
    )
    config[key] = data.draw(VALUES)
    beside.write_text(json.dumps(config))
    event(survive(path.parent).outcome)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from(TEXTS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TEXTS), inner, max_size=3)
    ),
    max_leaves=6,
)


def change(data, entries, metadata):
    """One change of the header."""
    what = data.draw(st.sampled_from(["shape", "type", "name", "gone", "twice", "metadata"]))
    if what == "metadata" or not entries:
        key = data.draw(st.sampled_from([*metadata, "ss_network_args", "ss_datasets", "software"]))
        metadata[key] = data.draw(st.sampled_from(TEXTS))
        return
    place = data.draw(st.integers(0, len(entries) - 1))
    if what == "gone":
        del entries[place]
    elif what == "twice":
        key, dtype, shape = entries[place]
        entries.append(
            [data.draw(st.sampled_from(["x." + key, key + ".default", key.upper()])), dtype, shape]
        )
    elif what == "shape":
        entries[place][2] = data.draw(SHAPES)
    elif what == "type":
        entries[place][1] = data.draw(st.sampled_from(TYPES))
    else:
        endings = [
            "lora_up.weight",
            "lora_down.weight",
            "alpha",
            "dora_scale",
            "diff",
            "lokr_w1",
            "weight",
            "🙂",
        ]
        entries[place][0] = (
            entries[place][0].rpartition(".")[0] + "." + data.draw(st.sampled_from(endings))
        )


def packed(entries, metadata):
    """A safetensors file of those entries, as many bytes as they claim up to a mebibyte each."""
    table, end = {"__metadata__": metadata}, 0
    for key, dtype, shape in entries:
        size = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8, "I64": 8}.get(dtype, 1)
        for axis in shape:
            size *= axis
        size = min(size, 1 << 20)
        table[key] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(table, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text + b"\x3c" * end


def copy(place) -> Path:
    """A copy of a valid file with what lies beside it, over the last one: thousands of folders are slow."""
    folder, file = place
    to = folder.with_name(f"{folder.name}-mutated")
    shutil.copytree(folder, to, dirs_exist_ok=True)
    return to / file


def test_the_limits_can_be_broken(tmp_path, monkeypatch):
    """The tester is tested: what takes memory or time, or raises another error, is found."""
    path = write("kohya", tmp_path)
    gc.collect()  # what earlier tests left must not be freed meanwhile
    before = restart_peak()
    if before is not None:
        block = bytearray(b"x") * (80 << 20)
        assert peak() - before > 64 << 20
        del block
    monkeypatch.setattr("tests.hostile.survival.SECONDS", -1.0)
    with pytest.raises(AssertionError, match="expected at most -1"):
        survive(path)
    monkeypatch.setattr("lorascope.io.read.read_lora", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        survive(path)
