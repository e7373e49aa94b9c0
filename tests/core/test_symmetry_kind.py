"""The order of the symmetry groups."""

import pytest

from lorascope.core import Symmetry


def test_groups_are_ordered_by_size():
    assert Symmetry.NONE < Symmetry.O < Symmetry.GL
    assert Symmetry.GL >= Symmetry.O
    assert sorted([Symmetry.GL, Symmetry.NONE]) == [Symmetry.NONE, Symmetry.GL]
    with pytest.raises(TypeError):
        assert Symmetry.GL < 1
