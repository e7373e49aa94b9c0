"""Kronecker products: kept as their factors, and their ranks as pairs."""

import pytest
import torch

from lorascope.core import Kronecker
from lorascope.errors import FormatError, HostileFileError
from lorascope.io.modules.kronecker import build_kronecker
from lorascope.io.modules.parts import Parts


def test_the_rank_is_exact():
    slots = {"lokr_w1": torch.randn(3, 5), "lokr_w2_a": torch.randn(8, 2), "lokr_w2_b": torch.randn(2, 7),
             "alpha": torch.tensor(1.0)}  # fmt: skip
    update = build_kronecker(Parts("m", slots, "a file")).pair
    assert isinstance(update, Kronecker)
    assert update.parameter_count == 15 + 16 + 14
    assert update.rank == update.to_low_rank().rank == 6  # 3 of the whole factor times 2
    expected = torch.kron(slots["lokr_w1"], slots["lokr_w2_a"] @ slots["lokr_w2_b"]) / 2
    torch.testing.assert_close(update.dense(), expected)


def test_a_rank_above_the_width_is_brought_down():
    slots = {"lokr_w1_a": torch.randn(2, 3), "lokr_w1_b": torch.randn(3, 2),
             "lokr_w2_a": torch.randn(2, 3), "lokr_w2_b": torch.randn(3, 2)}  # fmt: skip
    update = build_kronecker(Parts("m", slots, "a file")).pair
    pair = update.to_low_rank()
    assert update.rank == pair.rank == 4
    w1, w2 = slots["lokr_w1_a"] @ slots["lokr_w1_b"], slots["lokr_w2_a"] @ slots["lokr_w2_b"]
    torch.testing.assert_close(pair.dense(), torch.kron(w1, w2), atol=1e-4, rtol=1e-4)


def test_a_tucker_middle_that_does_not_fit():
    slots = {"lokr_w1": torch.ones(2, 2), "lokr_w2_a": torch.ones(2, 4), "lokr_w2_b": torch.ones(2, 4),
             "lokr_t2": torch.ones(3, 3, 1, 1)}  # fmt: skip
    with pytest.raises(FormatError, match="do not go together"):
        build_kronecker(Parts("m", slots, "a file"))


def test_claims_beyond_any_matrix_are_refused():
    slots = {"lokr_w1": torch.ones(1 << 11, 1), "lokr_w2": torch.ones(1 << 10, 1)}
    with pytest.raises(HostileFileError, match="claim an update of 2097152 x 1"):
        build_kronecker(Parts("m", slots, "a file"))
    slots = {
        "lokr_w1": torch.ones(2, 2),
        "lokr_w2_a": torch.ones(1, 8193),
        "lokr_w2_b": torch.ones(8193, 1),
    }
    with pytest.raises(HostileFileError, match="rank is 8193"):
        build_kronecker(Parts("m", slots, "a file"))
    slots = {"lokr_w1": torch.ones(1, 1), "lokr_w2_a": torch.ones(1, 1), "lokr_w2_b": torch.ones(1, 1 << 11),
             "lokr_t2": torch.ones(1, 1, 1 << 12)}  # fmt: skip
    with pytest.raises(HostileFileError, match="a factor expands to 8388608 values"):
        build_kronecker(Parts("m", slots, "a file"))
