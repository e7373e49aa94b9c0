"""The identity of a file."""

import pytest

from lorascope.errors import FormatError
from lorascope.io.digest import file_sha256


def test_digest_of_known_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert (
        file_sha256(tmp_path / "file")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    with pytest.raises(FormatError, match="no regular file"):
        file_sha256(tmp_path)
