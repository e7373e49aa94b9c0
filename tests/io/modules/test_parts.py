"""Scales and caps."""

import pytest
import torch

from lorascope.core.lora import Scale
from lorascope.errors import FormatError, HostileFileError
from lorascope.io.modules.parts import NO_ALPHA, Parts, alpha_scale, join
from lorascope.io.room import Room


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
    with pytest.raises(HostileFileError, match="claim an update of 4 x 1048577"):
        parts.check_width(4, (1 << 20) + 1)
    with pytest.raises(FormatError, match="floating"):
        parts.factor("down")
    assert join(torch.ones(2, 1).half(), torch.ones(3, 1)).dtype == torch.float32


def test_the_modules_of_a_file_share_its_room():
    held = torch.ones(1 << 20)
    room = Room.of([held])
    first = Parts("a", {}, "a file", room=room)
    first.room_for(5 << 20)  # of the 4 MiB that it holds six times, and 16 MiB
    assert room.left == (16 + 24 - 20) << 20
    second = Parts("b", {"down": held.double()}, "a file", room=room)
    with pytest.raises(HostileFileError, match=r"'b'.*at most 2621440"):
        second.room_for(3 << 20)  # in double precision
