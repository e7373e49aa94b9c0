"""The PEFT writer against peft: what is written loads, and adds the same to every weight."""

from dataclasses import replace

import pytest
import torch
from peft import AdaLoraConfig, LoraConfig
from safetensors.torch import load_file

from lorascope.core import LoRA, LowRank, Provenance, Scale, Side
from lorascope.errors import FormatError
from lorascope.io.peft.write import to_peft
from lorascope.io.read import read_lora
from lorascope.io.write import write_lora
from tests.io import adapters as made

QV = ["q_proj", "v_proj"]
EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]
PATTERNS = {"rank_pattern": {"0.self_attn.q_proj": 3, "q_proj": 2}, "alpha_pattern": {"v_proj": 11}}

CASES = {
    "linear": (made.llama, LoraConfig(target_modules=QV, r=4, lora_alpha=6)),
    "patterns": (made.llama, LoraConfig(target_modules=QV, r=4, lora_alpha=7, **PATTERNS)),
    "rslora": (made.llama, LoraConfig(target_modules=QV, r=4, lora_alpha=6, use_rslora=True, **PATTERNS)),
    "regex": (made.llama, LoraConfig(target_modules=r".*layers\.1.*q_proj", r=4)),
    "some layers": (made.llama, LoraConfig(target_modules=QV, r=4, layers_to_transform=[1])),
    "transposed": (made.gpt2, LoraConfig(target_modules=["c_attn"], r=3, fan_in_fan_out=True)),
    "embedding": (made.llama, LoraConfig(target_modules=["embed_tokens", "q_proj"], r=4, lora_alpha=6)),
    "bias": (made.llama, LoraConfig(target_modules=QV, r=4, lora_alpha=6, lora_bias=True)),
    "dora": (made.llama, LoraConfig(target_modules=QV, r=4, lora_alpha=6, use_dora=True)),
    "convolutions": (
        made.Convolutions,
        LoraConfig(target_modules=["one", "two", "point", "three"], r=4, lora_alpha=6),
    ),
    "attention": (made.Attention, LoraConfig(target_modules=["attn"], r=4, lora_alpha=6)),
    "attention by rule": (
        made.Attention,
        LoraConfig(
            target_modules=["attn", "head"],
            r=4,
            lora_alpha=6,
            rank_pattern={"attn": 2},
            alpha_pattern={"attn": 5},
        ),
    ),
    "replaced module": (
        made.Attention,
        LoraConfig(target_modules=["attn"], r=4, lora_alpha=6, modules_to_save=["head"]),
    ),
    "trained biases": (made.gpt2, LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True, bias="all")),
    "biases of layers": (
        made.gpt2,
        LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True, bias="lora_only"),
    ),
    "trained tokens": (
        made.llama,
        LoraConfig(target_modules=QV, trainable_token_indices={"embed_tokens": [1, 5]}),
    ),
    "experts": (
        made.mixtral,
        LoraConfig(target_modules=["q_proj"], target_parameters=EXPERTS, r=4, lora_alpha=6),
    ),
    "experts only": (
        made.mixtral,
        LoraConfig(target_modules=[], target_parameters=EXPERTS, r=4, rank_pattern={"down_proj": 2}),
    ),
    "one parameter": (
        made.SquareExperts,
        LoraConfig(target_modules=[], target_parameters=["block.single", "lin.weight"], r=4, lora_alpha=6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_peft_loads_the_same_update(case, tmp_path):
    model, config = CASES[case]
    adapted = made.adapt(model(), config)
    first = read_lora(made.save(adapted, tmp_path / "peft"))
    write_lora(first, tmp_path / "ours")
    loaded = made.load(model(), tmp_path / "ours")
    expected = made.deltas(adapted)
    made.assert_same_updates(first, expected)
    again = made.deltas(loaded)
    assert set(again) == set(expected)
    for name, delta in expected.items():
        assert float((again[name] - delta).norm() / delta.norm()) <= 1e-6, name

    second = read_lora(tmp_path / "ours")
    made.assert_same_updates(second, expected)
    assert second.provenance.scales == first.provenance.scales
    assert second.provenance.kinds == first.provenance.kinds
    assert second.provenance.base == first.provenance.base
    assert {name: side.kind for name, side in second.side.items()} == {
        name: side.kind for name, side in first.side.items()
    }
    for name, side in first.side.items():
        assert torch.allclose(second.side[name].tensor, side.tensor, rtol=1e-6)
    # the keys are those that peft wrote
    ours = load_file(tmp_path / "ours/adapter_model.safetensors")
    assert set(ours) == set(load_file(tmp_path / "peft/adapter_model.safetensors"))


def test_adalora_becomes_lora(tmp_path):
    config = AdaLoraConfig(target_modules=QV, init_r=6, target_r=3, lora_alpha=8, total_step=10)
    adapted = made.adapt(made.llama(), config)
    lora = read_lora(made.save(adapted, tmp_path / "peft"))
    write_lora(lora, tmp_path / "ours")
    made.assert_same_updates(lora, made.deltas(made.load(made.llama(), tmp_path / "ours")))


def test_block_diagonal_factors_are_written_whole(tmp_path):
    from peft import BdLoraConfig

    blocks = BdLoraConfig(target_modules_bd_a=["o_proj"], target_modules_bd_b=["q_proj"], nblocks=2)
    config = LoraConfig(target_modules=["q_proj", "o_proj"], r=4, use_bdlora=blocks)
    lora = read_lora(made.save(made.adapt(made.llama(), config), tmp_path / "peft"))
    write_lora(lora, tmp_path / "ours")
    made.assert_same_updates(lora, made.deltas(made.load(made.llama(), tmp_path / "ours")))


def test_kasa_keeps_its_flag(tmp_path):
    from peft import KasaConfig

    config = LoraConfig(target_modules=["q_proj"], r=4, kasa_config=KasaConfig())
    lora = read_lora(made.save(made.adapt(made.llama(), config), tmp_path / "peft"))
    write_lora(lora, tmp_path / "ours")
    layer = (
        made.load(made.llama(), tmp_path / "ours").base_model.model.model.layers[0].self_attn.q_proj
    )
    delta = layer.lora_variant["default"]._get_delta_weight(layer, "default")
    got = made.update_of(lora["model.layers.0.self_attn.q_proj"])
    assert torch.allclose(delta.double(), got, atol=1e-5)


def test_monteclora_keeps_its_samplers(tmp_path):
    from peft import MontecloraConfig

    config = LoraConfig(
        target_modules=["q_proj"], r=4, monteclora_config=MontecloraConfig(num_samples=2)
    )
    lora = read_lora(made.save(made.adapt(made.llama(), config), tmp_path / "peft"))
    write_lora(lora, tmp_path / "ours")
    made.load(made.llama(), tmp_path / "ours")


def test_pissa_keeps_its_flag(tmp_path):
    """The base is changed again when peft loads the adapter, so the merged weights come back."""
    torch.manual_seed(1)
    published = made.llama().state_dict()

    def base():
        model = made.llama()
        model.load_state_dict(published)
        return model

    adapted = made.adapt(base(), LoraConfig(target_modules=QV, r=2, init_lora_weights="pissa"))
    lora = read_lora(made.save(adapted, tmp_path / "peft"))
    write_lora(lora, tmp_path / "ours")
    loaded = made.load(base(), tmp_path / "ours")
    with made.quiet():
        expected, got = (m.merge_and_unload().state_dict() for m in (adapted, loaded))
    for key, weight in expected.items():
        assert torch.allclose(got[key], weight, atol=1e-4), key


def memory_lora(**options):
    g = torch.Generator().manual_seed(0)

    def pair(n, m, rank):
        return LowRank(torch.randn(n, rank, generator=g), torch.randn(m, rank, generator=g))

    layers = {
        "model.layers.0.self_attn.q_proj": pair(16, 16, 3),
        "model.layers.1.self_attn.q_proj": pair(16, 16, 2),
        "model.layers.1.self_attn.v_proj": pair(8, 16, 3),
    }
    return LoRA(layers, **options)


def test_lora_from_memory(tmp_path):
    lora = memory_lora()
    write_lora(lora, tmp_path, base="tiny")
    made.assert_same_updates(lora, made.deltas(made.load(made.llama(), tmp_path)))
    again = read_lora(tmp_path)
    assert again.provenance.base == "tiny"
    assert [scale.factor for scale in again.provenance.scales.values()] == [1.0] * 3
    for name in lora:
        assert torch.equal(again[name].u, lora[name].u)
        assert torch.equal(again[name].v, lora[name].v)


def test_replaced_modules_from_memory_are_declared(tmp_path):
    weight = torch.randn(32, 16)
    lora = memory_lora(side={"lm_head.weight": Side("full", weight)})
    write_lora(lora, tmp_path)
    loaded = made.load(made.llama(), tmp_path)
    assert torch.equal(loaded.base_model.model.lm_head.modules_to_save["default"].weight, weight)


def test_trained_biases_from_memory_are_declared():
    lora = memory_lora(side={"model.layers.1.self_attn.q_proj.bias": Side("bias", torch.ones(16))})
    tensors, config = to_peft(lora)
    assert config["bias"] == "lora_only"
    assert "base_model.model.model.layers.1.self_attn.q_proj.base_layer.bias" in tensors
    _, config = to_peft(replace(lora, side={"norm.bias": Side("bias", torch.ones(16))}))
    assert config["bias"] == "all"


def test_changed_layers_are_written_as_they_are(tmp_path):
    config = LoraConfig(target_modules=QV, r=4, lora_alpha=6)
    lora = read_lora(made.save(made.adapt(made.llama(), config), tmp_path / "peft"))
    names = list(lora)
    changed = (lora * -2.0).select(names[:3]).map(lambda pair: pair.pad(5))
    write_lora(changed, tmp_path / "ours")
    made.assert_same_updates(changed, made.deltas(made.load(made.llama(), tmp_path / "ours")))


def test_biases_of_some_layers_become_biases_of_all(tmp_path):
    config = LoraConfig(target_modules=QV, r=4, lora_alpha=6, lora_bias=True)
    lora = read_lora(made.save(made.adapt(made.llama(), config), tmp_path / "peft"))
    name = "model.layers.0.self_attn.q_proj.lora_bias"
    write_lora(replace(lora, side={name: lora.side[name]}), tmp_path / "ours")
    again = read_lora(tmp_path / "ours")
    assert torch.allclose(again.side[name].tensor, lora.side[name].tensor)
    assert sum(float(side.tensor.abs().sum()) == 0 for side in again.side.values()) == 3


def test_rank_zero_and_alpha_zero(tmp_path):
    name = "model.layers.0.self_attn.q_proj"
    empty = LoRA({name: LowRank(torch.zeros(16, 0), torch.zeros(16, 0))})
    write_lora(empty, tmp_path / "rank")
    assert read_lora(tmp_path / "rank")[name].norm() == 0
    zero = LoRA(
        {name: LowRank(torch.zeros(16, 2), torch.ones(16, 2))},
        provenance=Provenance(scales={name: Scale(0.0, 2, 0.0, "alpha/r")}),
    )
    write_lora(zero, tmp_path / "alpha")
    again = read_lora(tmp_path / "alpha")
    assert again.provenance.scales == zero.provenance.scales
    assert again[name].norm() == 0


def test_half_precision_stays(tmp_path):
    lora = memory_lora().to(torch.bfloat16)
    scales = {name: Scale(5.0, lora[name].rank, 5.0 / lora[name].rank, "alpha/r") for name in lora}
    lora = replace(lora, provenance=Provenance(scales=scales))
    tensors, config = to_peft(lora)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert (config["lora_alpha"], config["r"], config["rank_pattern"]) == (5, 3, {list(lora)[1]: 2})


def test_mixed_rules_fall_back_to_the_plain_one():
    lora = memory_lora()
    names = list(lora)
    scales = {
        names[0]: Scale(6.0, 3, 2.0, "alpha/r"),
        names[1]: Scale(4.0, 2, 4.0 / 2**0.5, "alpha/sqrt(r)"),
        names[2]: Scale(None, 3, 1.0, "1 (no config)"),
    }
    tensors, config = to_peft(replace(lora, provenance=Provenance(scales=scales)))
    assert not config["use_rslora"]
    key = "base_model.model.{}.lora_B.weight"
    assert torch.allclose(tensors[key.format(names[0])] * 2, lora[names[0]].u)
    assert torch.equal(tensors[key.format(names[1])], lora[names[1]].u)
    assert torch.equal(tensors[key.format(names[2])], lora[names[2]].u)


def test_nothing_to_write_is_refused():
    with pytest.raises(FormatError, match="no layers"):
        to_peft(LoRA({}))


@pytest.mark.parametrize("kind", ["diff", "native", "token_delta", "dora_magnitude"])
def test_side_tensors_without_a_place_are_refused(kind):
    with pytest.raises(FormatError, match=f"'m.extra' of kind '{kind}' as PEFT: it has no place"):
        to_peft(memory_lora(side={"m.extra": Side(kind, torch.ones(1))}))


def test_gaps_among_experts_are_refused(tmp_path):
    config = LoraConfig(target_modules=[], target_parameters=EXPERTS, r=4)
    lora = read_lora(made.save(made.adapt(made.mixtral(), config), tmp_path))
    names = [name for name in lora if not name.endswith("gate_up_proj.1")]
    with pytest.raises(FormatError, match="expected all experts from 0 on"):
        to_peft(lora.select(names))


def test_stacks_that_could_not_be_unpacked_are_not_written(tmp_path):
    config = LoraConfig(target_modules=["q_proj"], target_parameters=EXPERTS, r=4)
    folder = made.save(made.adapt(made.mixtral(), config), tmp_path)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(FormatError, match="of kind 'native' as PEFT: it has no place"):
        to_peft(read_lora(folder))


def test_a_part_of_an_attention_takes_the_scale_of_the_whole(tmp_path):
    config = LoraConfig(target_modules=["attn"], r=4, lora_alpha=6)
    lora = read_lora(made.save(made.adapt(made.Attention(), config), tmp_path / "peft"))
    scales = dict(lora.provenance.scales)
    scales["attn.out_proj"] = Scale(None, 4, 1.0, "alpha/r")
    changed = replace(lora, provenance=replace(lora.provenance, scales=scales))
    write_lora(changed, tmp_path / "ours")
    made.assert_same_updates(lora, made.deltas(made.load(made.Attention(), tmp_path / "ours")))
    uneven = replace(
        lora, layers={name: pair.pad(4 + len(name)) for name, pair in lora.layers.items()}
    )
    with pytest.raises(FormatError, match=r"'attn\.out_proj' as PEFT: its rank is 17, expected 8"):
        to_peft(uneven)


def test_a_layer_named_after_the_wrapper_is_refused(tmp_path):
    pair = LowRank(torch.ones(3, 1), torch.ones(4, 1))
    with pytest.raises(FormatError, match=r"'m\.x\.base_layer' is named after PEFT's own wrapper"):
        write_lora(LoRA({"m.x.base_layer": pair}), tmp_path / "adapter")
