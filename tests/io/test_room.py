import pytest
import torch

from lorascope.errors import HostileFileError
from lorascope.io.room import GROWTH, SPARE_BYTES, Room


def test_a_file_has_room_for_some_times_its_size():
    assert Room.of([torch.zeros(10), torch.zeros(3)]).left == SPARE_BYTES + GROWTH * 52


def test_what_many_small_factors_take_adds_up():
    room = Room(100)
    room.take("a", "file", 20, 4)
    assert room.left == 20
    with pytest.raises(
        HostileFileError, match=r"layer 'b' of 'file'.* 6 values, expected at most 5"
    ):
        room.take("b", "file", 6, 4)
    assert room.left == 20
