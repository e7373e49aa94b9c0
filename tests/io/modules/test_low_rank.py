"""Plain pairs: views of the file's tensors, and shapes that are refused."""

import pytest
import torch

from lorascope.errors import FormatError, HostileFileError
from lorascope.io.modules.low_rank import build_low_rank
from lorascope.io.modules.parts import Parts


def test_without_a_scale_nothing_is_copied():
    down, up = torch.randn(2, 4), torch.randn(6, 2)
    pair = build_low_rank(Parts("m", {"down": down, "up": up}, "a file")).pair
    assert pair.v.data_ptr() == down.data_ptr()
    assert pair.u.data_ptr() == up.data_ptr()


@pytest.mark.parametrize(
    ("down", "up", "mid"),
    [
        ((2, 4), (6, 2, 3, 3), None),
        ((2, 4, 3, 3), (6, 2, 1, 1), (2, 2, 3, 3)),
        ((2, 4), (6, 2), (3, 2, 3)),
    ],
)
def test_convolutions_that_do_not_fit(down, up, mid):
    slots = {"down": torch.ones(down), "up": torch.ones(up)}
    slots |= {} if mid is None else {"mid": torch.ones(mid)}
    with pytest.raises(FormatError, match="do not go together"):
        build_low_rank(Parts("m", slots, "a file"))


def test_a_rank_above_the_cap():
    slots = {"down": torch.ones(9000, 1), "up": torch.ones(1, 9000)}
    with pytest.raises(HostileFileError, match="rank is 9000"):
        build_low_rank(Parts("m", slots, "a file"))
