import math

import pytest
import torch

from lorascope.core.lora import LoRA, Provenance, Scale, Side
from lorascope.core.low_rank import LowRank
from lorascope.inspect import measure as measure_module
from lorascope.inspect import spectra as spectra_module
from lorascope.inspect.measure import facts_of
from tests.core.updates import KINDS, dense_twin, made


def random_pair(seed, n=12, m=9, r=4, dtype=torch.float32, kernel=()):
    draw = torch.Generator().manual_seed(seed)
    u = torch.randn(n, r, generator=draw, dtype=torch.float64)
    v = torch.randn(m, r, generator=draw, dtype=torch.float64)
    return LowRank(u.to(dtype), v.to(dtype), kernel)


def ragged_lora():
    return LoRA(
        {
            "model.layers.0.self_attn.q_proj": random_pair(0),
            "model.layers.0.self_attn.v_proj": random_pair(1, n=6),
            "model.layers.1.self_attn.q_proj": random_pair(2, r=2),
            "model.layers.10.self_attn.q_proj": random_pair(3),
            "model.layers.2.conv": random_pair(4, m=18, kernel=(3, 3)),
            "model.layers.2.wide": random_pair(5, n=3, m=5, r=4),
            "model.layers.2.half": random_pair(6, dtype=torch.bfloat16),
            "model.layers.2.none": LowRank(torch.zeros(12, 0), torch.zeros(9, 0)),
        }
    )


def test_norms_and_spectra_are_those_of_the_dense_updates():
    lora = ragged_lora()
    for layer in facts_of(lora).layers:
        pair = lora[layer.name]
        dense = pair.u.double() @ pair.v.double().T
        values = torch.linalg.svdvals(dense)[: min(pair.n, pair.m, pair.rank)]
        assert layer.norm == pytest.approx(float(dense.norm()), rel=1e-9, abs=1e-12)
        torch.testing.assert_close(
            torch.tensor(layer.spectrum, dtype=torch.float64), values, rtol=1e-6, atol=1e-9
        )
        assert layer.effective_rank == pytest.approx(
            float(pair.to(torch.float64).effective_rank()), abs=1e-6
        )
        assert layer.rms == pytest.approx(float(dense.square().mean().sqrt()), rel=1e-6, abs=1e-12)


def test_facts_keep_the_order_and_do_not_depend_on_the_stacking(monkeypatch):
    lora = ragged_lora()
    whole = facts_of(lora)
    assert [layer.name for layer in whole.layers] == list(lora.layers)
    monkeypatch.setattr(spectra_module, "CHUNK_BYTES", 1)
    monkeypatch.setattr(measure_module, "GROUP_BYTES", 1)
    for one, other in zip(whole.layers, facts_of(lora).layers, strict=True):
        assert one.norm == pytest.approx(other.norm, rel=1e-12)


def test_gauge_changes_no_fact():
    pair = random_pair(7)
    gauge = torch.diag(torch.tensor([1e-6, 1.0, 1e5, 3.0])).double()
    turned = LowRank(pair.u.double() @ gauge, pair.v.double() @ gauge.inverse())
    first, second = facts_of(LoRA({"a": pair})).layers[0], facts_of(LoRA({"a": turned})).layers[0]
    assert second.norm == pytest.approx(first.norm, rel=1e-6)
    assert second.spectrum == pytest.approx(first.spectrum, rel=1e-5)
    assert second.dead_ranks == first.dead_ranks == 0


def test_dead_ranks_are_columns_that_add_nothing():
    pair = random_pair(8)
    u = pair.u.clone()
    u[:, 3] = 0  # never trained
    u[:, 2] = 2 * u[:, 1]  # twice the same direction on both sides
    v = pair.v.clone()
    v[:, 2] = v[:, 1]
    assert facts_of(LoRA({"a": LowRank(u, v)})).layers[0].dead_ranks == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_blank_when_all_its_factors_are_zero(kind, generator):
    update = made(kind, generator)
    assert not facts_of(LoRA({"a": update})).layers[0].blank
    for factor in update.factors[:-1]:
        factor.zero_()
    assert not facts_of(LoRA({"a": update})).layers[0].blank
    update.factors[-1].zero_()
    assert facts_of(LoRA({"a": update})).layers[0].blank


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_broken_layer_is_told_and_spoils_no_other(bad):
    lora = ragged_lora()
    layers = dict(lora.layers)
    u = layers["model.layers.0.self_attn.q_proj"].u.clone()
    u[2, 1] = bad
    layers["model.layers.0.self_attn.q_proj"] = LowRank(
        u, layers["model.layers.0.self_attn.q_proj"].v
    )
    found = facts_of(LoRA(layers))
    broken = [layer for layer in found.layers if not layer.finite]
    assert [layer.name for layer in broken] == ["model.layers.0.self_attn.q_proj"]
    assert broken[0].norm is broken[0].spectrum is broken[0].effective_rank is broken[0].rms is None
    assert found.norm is None
    sound = {layer.name: layer for layer in facts_of(lora).layers}
    for layer in found.layers:
        if layer.finite:
            assert layer.norm == pytest.approx(sound[layer.name].norm)


def test_values_too_large_to_square_count_as_not_finite():
    pair = LowRank(
        torch.full((3, 1), 1e200, dtype=torch.float64),
        torch.full((4, 1), 1e200, dtype=torch.float64),
    )
    assert not facts_of(LoRA({"a": pair})).layers[0].finite


def test_what_the_reader_said_is_kept():
    scale = Scale(8.0, 4, 2.0, "alpha/r")
    lora = LoRA(
        {"a": random_pair(9)},
        {
            "a.bias": Side("bias", torch.tensor([1.0, math.nan])),
            "ids": Side("native", torch.tensor([1])),
        },
        Provenance(
            "peft", "here", "base", "peft 0.21", {"a": scale}, ("x: y",), ("n: z",), {"r": 4}
        ),
    )
    found = facts_of(lora)
    assert (found.format, found.source, found.base, found.writer) == (
        "peft",
        "here",
        "base",
        "peft 0.21",
    )
    assert found.layers[0].scale == scale
    assert found.ambiguities == ("x: y",)
    assert found.notes == ("n: z",)
    assert found.config == {"r": 4}
    assert [(s.name, s.kind, s.shape, s.dtype, s.finite) for s in found.side] == [
        ("a.bias", "bias", (2,), "float32", False),
        ("ids", "native", (1,), "int64", True),
    ]
    assert found.parameters == lora.parameter_count
    assert found.nbytes == lora.nbytes


def test_an_empty_lora_has_facts():
    found = facts_of(LoRA({}))
    assert found.layers == ()
    assert found.norm == 0


def test_the_family_is_that_of_the_layers_and_of_what_is_kept_beside():
    pair = random_pair(0, n=320, m=768)
    names = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    assert facts_of(LoRA({names: pair})).family.name == "SD1"
    beside = LoRA(
        {}, {"transformer_blocks.0.img_mlp.net.2.lokr_w1": Side("native", torch.ones(2, 2))}
    )
    assert facts_of(beside).family.name == "Qwen-Image"


def test_native_layers_are_measured_as_they_are(generator):
    lora = LoRA({kind: made(kind, generator) for kind in KINDS})
    for layer in facts_of(lora).layers:
        update = lora[layer.name]
        values = torch.linalg.svdvals(dense_twin(update))[: update.rank]
        assert layer.norm == pytest.approx(float(values.norm()), rel=1e-9, abs=1e-6)
        assert layer.spectrum == pytest.approx(values.tolist(), rel=1e-6, abs=1e-6)
        assert layer.effective_rank == pytest.approx(float(update.effective_rank()), abs=1e-4)
        assert (layer.rank, layer.finite) == (update.rank, True)


def test_spectra_beyond_what_a_file_may_cost_are_left_out_and_named(generator, monkeypatch):
    lora = LoRA({kind: made(kind, generator) for kind in KINDS})
    whole = {layer.name: layer for layer in facts_of(lora).layers}
    monkeypatch.setattr(measure_module, "WORK", 200)
    monkeypatch.setattr(measure_module, "WORK_PER_BYTE", 0)
    facts = facts_of(lora)
    assert [layer.name for layer in facts.layers] == list(lora)
    beyond = [layer for layer in facts.layers if layer.spectrum is None]
    assert 0 < len(beyond) < len(lora)
    for layer in beyond:
        assert layer.norm == pytest.approx(whole[layer.name].norm, rel=1e-6, abs=1e-12)
        assert (layer.effective_rank, layer.dead_ranks, layer.finite) == (None, 0, True)
    assert any(
        note.startswith(f"spectra: the singular values of {len(beyond)} layers")
        for note in facts.notes
    )
