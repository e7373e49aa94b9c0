import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorascope.errors import LorascopeError
from lorascope.io import header as header_module
from lorascope.io.header import read_header
from lorascope.io.plain_header import scan_plain

ONE = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
TWO = (
    b'{"__metadata__":{"format":"pt"},"x":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},'
    b'"y.z":{"dtype":"F32","shape":[],"data_offsets":[12,16]}}'
)


def test_a_plain_header_is_taken_apart():
    entries, metadata = scan_plain(TWO + b"   ")
    assert metadata == {"format": "pt"}
    assert [entry[:5] for entry in entries] == [
        ("x", "F16", "2,3", "0", "12"),
        ("y.z", "F32", "", "12", "16"),
    ]


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"{}",
        json.dumps(json.loads(ONE)).encode(),  # with spaces
        ONE.replace(b'"x"', b'"a\\u0041"'),
        ONE.replace(b'"x"', b'"/x"'),
        ONE.replace(b'"x"', b'"../x"'),
        ONE.replace(b'"x"', b'"a\x01"'),
        ONE.replace(b'"x"', b'"__metadata__"'),
        ONE.replace(b"[1]", b"[01]"),
        ONE.replace(b"[1]", "[\u0663]".encode()),
        ONE.replace(b"[1]", b"[1,1,1,1,1,1,1,1,1]"),
        ONE[:-1] + b"," + ONE[1:],  # twice the same
        ONE[:-1] + b",}",
        ONE + b"}",
        ONE[:-1] + b"}" + ONE[1:],
        b'{"__metadata__":{}{' + ONE[2:],
        b'{"__metadata__":{"a":"b","a":"c"},' + ONE[1:],
        b'{"__metadata__":NaN,' + ONE[1:],
        b'{"__metadata__":' + b"[" * 10_000,
        ONE[:-1] + b"\xff" + ONE[-1:],
        b'{"a' + b" " * (2 * 2**20) + ONE[3:],
    ],
)
def test_what_is_of_another_form_is_left_to_the_parser(other):
    assert scan_plain(other) is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_both_ways_say_the_same_of_any_header(tmp_path_factory, data):
    """Change plain headers anywhere: the plain way gives what the parser gives, or the same refusal."""
    text = bytearray(TWO)
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        piece = data.draw(
            st.sampled_from([b"", b",", b"}", b"{", b'"', b"0", b"9", b"]", b"x", b"\\", b" "])
        )
        text[place : place + data.draw(st.integers(0, 2))] = piece
    path = tmp_path_factory.mktemp("plain") / "a.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + bytes(text) + bytes(16))
    with pytest.MonkeyPatch.context() as patch:
        plain = told(path)
        patch.setattr(header_module, "scan_plain", lambda raw: None)
        assert plain == told(path)


def told(path):
    """The header, or the class and message of its refusal."""
    try:
        return read_header(path)
    except LorascopeError as error:
        return type(error), str(error)
