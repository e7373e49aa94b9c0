"""Ranks of Kronecker products."""

import pytest
import torch

from lorascope.errors import FormatError
from lorascope.io.modules.kronecker import build_kronecker
from lorascope.io.modules.parts import Parts


def test_the_rank_is_exact():
    slots = {"lokr_w1": torch.randn(3, 5), "lokr_w2_a": torch.randn(8, 2), "lokr_w2_b": torch.randn(2, 7),
             "alpha": torch.tensor(1.0)}  # fmt: skip
    built = build_kronecker(Parts("m", slots, "a file"))
    assert built.pair.rank == 6  # 3 of the whole factor times 2
    expected = torch.kron(slots["lokr_w1"], slots["lokr_w2_a"] @ slots["lokr_w2_b"]) / 2
    torch.testing.assert_close(built.pair.dense(), expected)


def test_a_rank_above_the_width_is_brought_down():
    slots = {"lokr_w1_a": torch.randn(2, 3), "lokr_w1_b": torch.randn(3, 2),
             "lokr_w2_a": torch.randn(2, 3), "lokr_w2_b": torch.randn(3, 2)}  # fmt: skip
    built = build_kronecker(Parts("m", slots, "a file"))
    assert built.pair.rank == 4
    w1, w2 = slots["lokr_w1_a"] @ slots["lokr_w1_b"], slots["lokr_w2_a"] @ slots["lokr_w2_b"]
    torch.testing.assert_close(built.pair.dense(), torch.kron(w1, w2), atol=1e-4, rtol=1e-4)


def test_a_tucker_middle_that_does_not_fit():
    slots = {"lokr_w1": torch.ones(2, 2), "lokr_w2_a": torch.ones(2, 4), "lokr_w2_b": torch.ones(2, 4),
             "lokr_t2": torch.ones(3, 3, 1, 1)}  # fmt: skip
    with pytest.raises(FormatError, match="do not go together"):
        build_kronecker(Parts("m", slots, "a file"))
