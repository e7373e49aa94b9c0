"""The room's own names: all there, all lazy."""

import pytest

from lorascope import io


def test_names_load_on_first_use():
    for name in io.__all__:
        assert getattr(io, name) is not None
    assert set(io.PLACES) == set(io.__all__) == set(dir(io))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        io.nothing  # noqa: B018
