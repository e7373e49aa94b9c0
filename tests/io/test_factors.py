import pytest
import torch

from lorascope.errors import FormatError, HostileFileError
from lorascope.io.factors import MAX_RANK, as_float, check_rank, fold, widen


def test_folding_one_changes_nothing():
    half = torch.ones(2, 2, dtype=torch.float16)
    assert fold(half, 1.0) is half
    assert fold(half, 0.5).dtype == torch.float32


def test_eight_bits_are_widened_exactly():
    narrow = torch.tensor([0.5, -3.0]).to(torch.float8_e4m3fn)
    assert widen(narrow).tolist() == [0.5, -3.0]
    assert as_float(narrow, "x", "file").dtype == torch.float32


def test_whole_numbers_are_no_factors():
    with pytest.raises(FormatError, match=r"its type is torch\.int64"):
        as_float(torch.ones(2, dtype=torch.int64), "x", "file")


def test_ranks_are_capped():
    check_rank("m.q", MAX_RANK, "file")
    with pytest.raises(HostileFileError, match=r"'m\.q'.*expected at most 8192"):
        check_rank("m.q", MAX_RANK + 1, "file")
