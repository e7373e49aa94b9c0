"""Hadamard products: kept as they are, and their ranks as pairs."""

import pytest
import torch

from lorascope.core import Hadamard
from lorascope.errors import FormatError, HostileFileError
from lorascope.io.modules.hadamard import build_hadamard
from lorascope.io.modules.parts import Parts


def hadamard(n, m, r, **more):
    shapes = {"hada_w1_a": (n, r), "hada_w1_b": (r, m), "hada_w2_a": (n, r), "hada_w2_b": (r, m)}
    slots = {slot: torch.randn(shape) for slot, shape in (shapes | more).items()}
    return Parts("m", slots, "a file")


@pytest.mark.parametrize(("n", "m"), [(9, 7), (7, 9)])
@pytest.mark.parametrize("r", [1, 2, 3, 5])
def test_the_rank_is_its_square_and_at_most_the_width(n, m, r):
    parts = hadamard(n, m, r)
    update = build_hadamard(parts).pair
    assert isinstance(update, Hadamard)
    assert update.parameter_count == 2 * r * (n + m)
    pair = update.to_low_rank()
    assert pair.rank == update.rank == min(r * r, n, m)
    w = parts.slots
    expected = (w["hada_w1_a"] @ w["hada_w1_b"]) * (w["hada_w2_a"] @ w["hada_w2_b"])
    torch.testing.assert_close(pair.dense(), expected, atol=1e-5, rtol=1e-5)


def test_misfits_and_sizes_are_refused():
    with pytest.raises(FormatError, match="do not go together"):
        build_hadamard(hadamard(4, 4, 2, hada_w2_b=(2, 5)))
    with pytest.raises(FormatError, match="do not go together"):
        build_hadamard(hadamard(4, 4, 2, hada_w1_b=(3, 4)))
    with pytest.raises(FormatError, match="do not go together"):
        build_hadamard(hadamard(4, 4, 2, hada_t1=(3, 3, 2)))
    with pytest.raises(HostileFileError, match="rank is 8193"):
        build_hadamard(hadamard(1, 1, 8193))
    kernel = {f"hada_t{k}": (1, 1, 1 << 12) for k in "12"}
    wide = hadamard(4, 4, 1, **kernel, hada_w1_a=(1, 4), hada_w2_a=(1, 4), hada_w1_b=(1, 1 << 11))
    with pytest.raises(HostileFileError, match="a factor expands to 8388608 values"):
        build_hadamard(wide)


def test_factors_of_different_types():
    parts = hadamard(6, 5, 2)
    parts.slots["hada_w1_a"] = parts.slots["hada_w1_a"].double()
    assert build_hadamard(parts).pair.dtype == torch.float64
