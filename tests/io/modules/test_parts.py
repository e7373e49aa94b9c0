"""Scales and caps."""

import pytest
import torch

from lorascope.core.lora import Scale
from lorascope.errors import FormatError, HostileFileError
from lorascope.io.modules.parts import NO_ALPHA, Parts, alpha_scale, join


@pytest.mark.parametrize(
    ("alpha", "factor", "rule"),
    [(None, 1.0, NO_ALPHA), (0.0, 1.0, "alpha/r"), (8.0, 2.0, "alpha/r"), (1.0, 0.25, "alpha/r")],
)
def test_alpha_over_rank(alpha, factor, rule):
    slots = {} if alpha is None else {"alpha": torch.tensor(alpha)}
    scale = alpha_scale(Parts("m", slots, "a file"), 4)
    assert (scale.alpha, scale.rank, scale.factor, scale.rule) == (alpha, 4, factor, rule)


def test_a_scale_from_elsewhere_comes_first():
    scale = Scale(3.0, 4, 0.75, "elsewhere")
    assert alpha_scale(Parts("m", {}, "a file", scale), 4) is scale


def test_room_and_types():
    parts = Parts("m", {"down": torch.ones(2, 2, dtype=torch.int32)}, "a file")
    with pytest.raises(HostileFileError, match="expands to"):
        parts.room_for(1 << 15, 1 << 15)
    with pytest.raises(FormatError, match="floating"):
        parts.factor("down")
    assert join(torch.ones(2, 1).half(), torch.ones(3, 1)).dtype == torch.float32
