"""LoRA: algebra by layer, immutability, side tensors, provenance."""

import pickle
from dataclasses import replace

import pytest
import torch

from lorascope.core import Kronecker, LoRA, LowRank, Provenance, Scale, Side, collate
from lorascope.errors import LayerError
from tests.conftest import random_lora, random_pair
from tests.core.updates import made


@pytest.fixture
def lora(generator):
    return random_lora(generator)


def flat(lora):
    return torch.cat([pair.dense().flatten() for pair in lora.layers.values()])


def test_norms_and_products_equal_those_of_the_flat_update(lora, generator):
    other = random_lora(generator)
    torch.testing.assert_close(lora.norm(), flat(lora).norm())
    torch.testing.assert_close(lora.inner(other), flat(lora) @ flat(other))
    expected = torch.cosine_similarity(flat(lora), flat(other), dim=0)
    torch.testing.assert_close(lora.cosine(other), expected)
    for name, value in lora.norms().items():
        torch.testing.assert_close(value, lora[name].dense().norm())
    assert set(lora.singular_values()) == set(lora)


def test_layers_that_only_one_has_count_zero(lora):
    part = lora.select(["b.0.q"])
    torch.testing.assert_close(part.inner(lora), part.norm().square())
    assert float(part.inner(lora.select(["b.0.v"]))) == 0.0
    assert float(part.cosine(LoRA({}))) == 0.0


def test_sum_and_scaling(lora, generator):
    other = random_lora(generator)
    torch.testing.assert_close(flat(lora + 2 * other), flat(lora) + 2 * flat(other))
    part = lora.select(["b.0.q"])
    assert set((part + lora.select(["b.0.v"])).layers) == {"b.0.q", "b.0.v"}


def test_sum_refuses_side_tensors(lora):
    with_side = replace(lora, side={"x": Side("bias", torch.ones(2))})
    with pytest.raises(LayerError, match="have no sum"):
        lora + with_side


def test_truncation_reports_the_kept_energy(lora):
    truncated, kept = lora.truncate(1)
    assert truncated.max_rank == 1
    expected = flat(truncated).square().sum() / flat(lora).square().sum()
    assert kept == pytest.approx(float(expected))
    assert lora.truncate(3).kept_energy == pytest.approx(1.0)
    assert LoRA({}).truncate(1).kept_energy == 1.0


def test_it_is_an_ordered_read_only_map(lora):
    assert list(lora) == ["b.0.q", "b.0.v", "b.1.q", "b.1.conv"]
    assert lora.select(["b.1.q", "b.0.q"]).signature().names == ("b.1.q", "b.0.q")
    with pytest.raises(TypeError):
        lora.layers["x"] = lora["b.0.q"]
    with pytest.raises(AttributeError):
        lora.layers = {}
    with pytest.raises(LayerError, match="none of that name"):
        lora["nowhere"]


def test_making_one_copies_the_mapping(generator):
    layers = {"q": random_pair(3, 3, 1, generator)}
    lora = LoRA(layers)
    layers["v"] = layers["q"]
    assert len(lora) == 1


def test_counts(lora):
    assert lora.parameter_count == 2 * 3 * 14 + 11 + 2 * 22
    with_side = replace(lora, side={"x": Side("bias", torch.ones(2))})
    assert with_side.nbytes == 8 * lora.parameter_count + 8
    assert lora.max_rank == 3
    assert "4 layers" in repr(lora)


def test_moving_keeps_side_tensors_in_their_type(lora):
    with_side = replace(lora, side={"x": Side("bias", torch.ones(2))})
    moved = with_side.to(torch.bfloat16, "cpu")
    assert moved["b.0.q"].dtype == torch.bfloat16
    assert moved.side["x"].tensor.dtype == torch.float32


def test_raw_scales_follow_only_untouched_ranks(lora):
    scales = {"b.0.q": Scale(8, 3, 8 / 3, "alpha/r"), "b.0.v": Scale(8, 1, 8.0, "alpha/r")}
    lora = replace(lora, provenance=Provenance(scales=scales, base="x"))
    assert set((0.5 * lora).provenance.scales) == {"b.0.q", "b.0.v"}
    assert set(lora.truncate(1).lora.provenance.scales) == {"b.0.v"}
    assert lora.signature().base == "x"
    assert (lora + lora).provenance.base == "x"
    assert (lora + random_free(lora)).provenance.base is None


def random_free(lora):
    return replace(lora, provenance=Provenance())


def test_the_outcome_of_reading():
    assert Provenance().outcome == "exact"
    assert Provenance(ambiguities=("a: b",)).outcome == "ambiguous"
    assert Provenance(ambiguities=("a: b",), left=("c: d",)).outcome == "part"


def test_it_travels_between_processes(lora):
    again = pickle.loads(pickle.dumps(lora))
    assert torch.equal(flat(again), flat(lora))
    with pytest.raises(TypeError):
        again.layers["x"] = LowRank(torch.ones(1, 1), torch.ones(1, 1))


def mixed(generator):
    return LoRA(
        {
            "a": made("second decomposed", generator),
            "b": made("product", generator),
            "c": made("pair", generator),
        },
        provenance=Provenance(scales={"a": Scale(1.0, 2, 0.5, "alpha/r")}),
    )


def test_native_layers_take_part_in_the_algebra(generator):
    lora, other = mixed(generator), mixed(generator)
    pairs = lora.to_low_rank()
    assert all(isinstance(pair, LowRank) for pair in pairs.layers.values())
    assert pairs.to_low_rank() is pairs
    torch.testing.assert_close(lora.norm(), pairs.norm())
    torch.testing.assert_close(lora.inner(other), pairs.inner(other.to_low_rank()))
    torch.testing.assert_close(lora.cosine(other), pairs.cosine(other))
    torch.testing.assert_close((lora + other).norm(), (pairs + other.to_low_rank()).norm())
    torch.testing.assert_close((2 * lora).norm(), 2 * lora.norm())
    cut, kept = lora.truncate(1)
    assert cut.max_rank == 1
    assert kept == pytest.approx(pairs.truncate(1).kept_energy)
    for name in lora:
        torch.testing.assert_close(lora.singular_values()[name], pairs.singular_values()[name])
        torch.testing.assert_close(lora.norms()[name], pairs.norms()[name])
    assert lora.parameter_count < pairs.parameter_count
    assert type(lora.to(torch.float32)["a"]) is Kronecker
    assert lora.map(lambda pair: pair.pad(20)).max_rank == 20


def test_native_layers_are_pairs_in_a_batch(generator):
    lora = mixed(generator)
    batch = collate([lora, lora.to_low_rank()])
    assert batch.ranks.tolist() == [[4, 6, 3], [4, 6, 3]]
    assert all(torch.equal(group.u[:, 0], group.u[:, 1]) for group in batch.groups)
    for name, pair in batch.unbind()[0].layers.items():
        torch.testing.assert_close(pair.dense(), lora[name].dense())


def test_native_layers_travel_between_processes(generator):
    lora = mixed(generator)
    again = pickle.loads(pickle.dumps(lora))
    torch.testing.assert_close(again["b"].dense(), lora["b"].dense())


def test_a_layer_that_does_not_fit_is_named(generator, monkeypatch):
    lora = mixed(generator)
    monkeypatch.setattr("lorascope.core.update.MAX_VALUES", 10)
    with pytest.raises(LayerError, match="factor pair of layer 'a'"):
        lora.to_low_rank()
