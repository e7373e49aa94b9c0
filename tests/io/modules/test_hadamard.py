"""Ranks of Hadamard products."""

import pytest
import torch

from lorascope.core import LowRank
from lorascope.errors import FormatError, HostileFileError
from lorascope.io.modules.hadamard import build_hadamard, narrow
from lorascope.io.modules.parts import Parts


def hadamard(n, m, r, **more):
    shapes = {"hada_w1_a": (n, r), "hada_w1_b": (r, m), "hada_w2_a": (n, r), "hada_w2_b": (r, m)}
    slots = {slot: torch.randn(shape) for slot, shape in (shapes | more).items()}
    return Parts("m", slots, "a file")


@pytest.mark.parametrize(("n", "m"), [(9, 7), (7, 9)])
@pytest.mark.parametrize("r", [1, 2, 3, 5])
def test_the_rank_is_its_square_and_at_most_the_width(n, m, r):
    parts = hadamard(n, m, r)
    pair = build_hadamard(parts).pair
    assert pair.rank == min(r * r, n, m)
    w = parts.slots
    expected = (w["hada_w1_a"] @ w["hada_w1_b"]) * (w["hada_w2_a"] @ w["hada_w2_b"])
    torch.testing.assert_close(pair.dense(), expected, atol=1e-5, rtol=1e-5)


def test_narrow_keeps_the_update():
    for n, m in ((6, 9), (9, 6)):
        pair = LowRank(torch.randn(n, 20), torch.randn(m, 20))
        assert narrow(pair).rank == 6
        torch.testing.assert_close(narrow(pair).dense(), pair.dense(), atol=1e-4, rtol=1e-4)


def test_misfits_and_sizes_are_refused():
    with pytest.raises(FormatError, match="do not go together"):
        build_hadamard(hadamard(4, 4, 2, hada_w2_b=(2, 5)))
    with pytest.raises(FormatError, match="do not go together"):
        build_hadamard(hadamard(4, 4, 2, hada_w1_b=(3, 4)))
    with pytest.raises(FormatError, match="do not go together"):
        build_hadamard(hadamard(4, 4, 2, hada_t1=(3, 3, 2)))
    with pytest.raises(HostileFileError, match="expands"):
        build_hadamard(hadamard(1 << 15, 1 << 15, 200))


def test_factors_of_different_types():
    parts = hadamard(6, 5, 2)
    parts.slots["hada_w1_a"] = parts.slots["hada_w1_a"].double()
    assert build_hadamard(parts).pair.dtype == torch.float64
