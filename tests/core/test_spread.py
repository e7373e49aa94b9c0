import threading

import pytest
import torch

from lorascope.core.spread import spread


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_stand_in_the_order_of_the_parts(two_threads):
    assert spread(lambda x: x * x, range(9)) == [x * x for x in range(9)]
    assert spread(abs, []) == []


def test_parts_run_side_by_side_and_torch_keeps_its_threads(two_threads):
    both = threading.Barrier(2, timeout=10)
    spread(lambda _: both.wait(), [0, 1])
    assert torch.get_num_threads() == 2


def test_one_part_stays_on_its_thread(two_threads):
    assert spread(lambda _: threading.get_ident(), [0]) == [threading.get_ident()]


def test_what_goes_wrong_is_raised(two_threads):
    with pytest.raises(ZeroDivisionError):
        spread(lambda x: 1 / x, [1, 0])
