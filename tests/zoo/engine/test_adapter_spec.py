import pytest

from lorascope.errors import DataError
from lorascope.zoo.engine.adapter_spec import AdapterSpec


def test_the_factor_follows_the_rule():
    assert AdapterSpec(("q_proj",), rank=4, alpha=8).factor == 2
    assert AdapterSpec(("q_proj",), rank=4, alpha=8, rslora=True).factor == 4


def test_an_empty_spec_is_refused():
    with pytest.raises(DataError, match="at least one target"):
        AdapterSpec((), rank=4, alpha=8)
