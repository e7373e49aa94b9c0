"""What passes for weights, by its first bytes; whole files of each kind are in hostile/."""

import pytest

from lorascope.errors import FormatError, HostileFileError
from lorascope.io.disguise import DISGUISES, disguise, refuse_disguise


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "lfs"),
        (b"\n <!DOCTYPE html>", "html"),
        (b"<HTML>", "html"),
        (b"<?xml version='1.0'?>", "html"),
        (b"PK\x03\x04", "pickle"),
        (b"\x80\x02}q", "pickle"),
        (b"\x80\x05", "pickle"),
        (b"GGUF\x03", "gguf"),
        (b' {"error": "not found"}', "json"),
        (b"\x00\x01", None),
        (b"", None),
    ],
)
def test_disguises(start, kind):
    assert disguise(start) == kind


def test_every_kind_is_refused_by_its_own_message():
    starts = {
        "lfs": b"version https://git-lfs",
        "html": b"<html>",
        "pickle": b"PK\x03\x04",
        "gguf": b"GGUF",
    }
    starts["json"] = b"{}"
    assert set(starts) == set(DISGUISES)
    for kind, start in starts.items():
        with pytest.raises(HostileFileError if kind == "pickle" else FormatError) as caught:
            refuse_disguise(start, "file")
        assert DISGUISES[kind] in str(caught.value)
    refuse_disguise(b"\x08\x00", "file")
