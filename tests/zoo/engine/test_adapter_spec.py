import pytest

from lorascope.errors import DataError
from lorascope.zoo.engine.adapter_spec import AdapterSpec, specs_of


def test_the_factor_follows_the_rule():
    assert AdapterSpec(("q_proj",), rank=4, alpha=8).factor == 2
    assert AdapterSpec(("q_proj",), rank=4, alpha=8, rslora=True).factor == 4


def test_an_empty_spec_is_refused():
    with pytest.raises(DataError, match="at least one target"):
        AdapterSpec((), rank=4, alpha=8)


def test_patterns_name_layers_by_their_last_parts():
    spec = AdapterSpec(
        ("q_proj", "v_proj"),
        rank=4,
        alpha=8,
        rank_pattern={"layers.1.q_proj": 2, "q_proj": 8},
        alpha_pattern={"v_proj": 2},
    )
    names = ("m.layers.1.q_proj", "m.layers.0.q_proj", "m.layers.11.q_proj", "m.vq_proj", "v_proj")
    assert [spec.rank_of(name) for name in names] == [2, 8, 8, 4, 4]
    assert [spec.factor_of(name) for name in names] == [4, 1, 1, 2, 0.5]
    with pytest.raises(DataError, match="rank_pattern"):
        AdapterSpec(("q_proj",), rank=4, alpha=8, rank_pattern={"q_proj": 0})


def test_plain_data_names_only_what_is_used():
    spec = AdapterSpec(("q_proj",), rank=4, alpha=8.0)
    assert spec.plain() == {"targets": ("q_proj",), "rank": 4, "alpha": 8.0, "rslora": False}
    mixed = AdapterSpec(("q_proj",), rank=4, alpha=8, rank_pattern={"q_proj": 2}, dora=True)
    assert mixed.plain()["rank_pattern"] == {"q_proj": 2}
    assert AdapterSpec(**mixed.plain()) == mixed


def test_one_spec_serves_all_or_each_has_its_own():
    a, b = (AdapterSpec(("q_proj",), rank=rank, alpha=8) for rank in (1, 2))
    assert specs_of(a, 2) == (a, a)
    assert specs_of([a, b], 2) == (a, b)
    with pytest.raises(DataError, match="found 2 specs"):
        specs_of([a, b], 3)


def test_a_rank_without_its_alpha_keeps_the_factor():
    spec = AdapterSpec(("q_proj",), rank=4, alpha=8)
    assert [spec.changed({"rank": rank}).factor for rank in (1, 2, 16)] == [2, 2, 2]
    assert spec.changed({"rank": 16, "rslora": True}).factor == 2
    assert spec.changed({"alpha": 1, "targets": ["v_proj"]}) == AdapterSpec(("v_proj",), 4, 1)
    assert spec.changed(spec.plain()) == spec
