"""Mixtures: no kernel is computed for nothing, none is asked for that does not exist."""

from lorascope.models.mixed_kernels import EVEN
from lorascope.models.mixtures import (
    JOINT,
    LANDMARKED,
    LINEAR,
    MIXTURES,
    NEAR,
    SECOND,
    SECOND_LOOK,
    TURNED,
)


def test_every_kernel_has_a_use():
    assert {name for mixture in MIXTURES.values() for name in mixture} == {
        EVEN,
        *LINEAR,
        *LANDMARKED,
    }
    assert {name for mixture in SECOND_LOOK.values() for name in mixture} == {
        "hint",
        "layers",
        *SECOND,
    }


def test_products_are_of_kernels_that_there_are():
    assert set(TURNED.values()) <= set(NEAR)
    assert not set(JOINT) & set(NEAR)
