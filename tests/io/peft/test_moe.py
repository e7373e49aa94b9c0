"""Stacks of experts against peft: the packing, the nesting, and what the file cannot tell."""

import json

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from lorascope.errors import FormatError, HostileFileError
from lorascope.io.peft import moe as peft_moe
from lorascope.io.read import read_lora
from tests.io import adapters as made

BOTH = ["experts.gate_up_proj", "experts.down_proj"]


def edit_config(folder, **changes):
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value != "absent"}))


@pytest.mark.parametrize("model", [made.mixtral, made.gpt_oss])
@pytest.mark.parametrize("parameters", [BOTH, BOTH[::-1], [f"mlp.{name}" for name in BOTH]])
def test_every_expert_is_a_layer(tmp_path, model, parameters):
    config = LoraConfig(target_modules=["q_proj"], target_parameters=parameters, r=4, lora_alpha=6)
    adapted = made.adapt(model(), config)
    lora = read_lora(made.save(adapted, tmp_path))
    made.assert_same_updates(lora, made.deltas(adapted))
    assert lora.provenance.ambiguities == ()
    name = "model.layers.0.mlp.experts.down_proj.2"
    assert lora[name].shape == (16, 12)
    assert lora.provenance.kinds[name] == "expert"
    assert lora.provenance.scales[name].rank == 4


def test_patterns_match_the_parameter(tmp_path):
    config = LoraConfig(
        target_modules=[],
        target_parameters=BOTH,
        r=4,
        lora_alpha=6,
        use_rslora=True,
        rank_pattern={"gate_up_proj": 2},
        alpha_pattern={r"layers\.1\..*down_proj": 5},
    )
    adapted = made.adapt(made.mixtral(), config)
    lora = read_lora(made.save(adapted, tmp_path))
    made.assert_same_updates(lora, made.deltas(adapted))
    assert lora["model.layers.1.mlp.experts.gate_up_proj.0"].rank == 2


def test_half_of_the_experts_alone_leaves_the_sides_open(tmp_path):
    config = LoraConfig(target_modules=["q_proj"], target_parameters=BOTH[:1], r=4, lora_alpha=6)
    adapted = made.adapt(made.mixtral(), config)
    lora = read_lora(made.save(adapted, tmp_path))
    made.assert_same_updates(lora, made.deltas(adapted))
    assert [text.split(":")[0] for text in lora.provenance.ambiguities] == ["experts"] * 2


def test_square_stacks_are_ambiguous(tmp_path):
    config = LoraConfig(target_modules=[], target_parameters=["experts.mixer"], r=2)
    adapted = made.adapt(made.SquareExperts(), config)
    lora = read_lora(made.save(adapted, tmp_path))
    made.assert_same_updates(lora, made.deltas(adapted))
    (text,) = lora.provenance.ambiguities
    assert "'experts'" in text
    assert "which side" in text


@pytest.mark.parametrize(
    ("target", "name"), [("block.single", "block.single"), ("lin.weight", "lin")]
)
def test_one_matrix_is_an_ordinary_layer(tmp_path, target, name):
    config = LoraConfig(target_modules=[], target_parameters=[target], r=2)
    adapted = made.adapt(made.SquareExperts(), config)
    lora = read_lora(made.save(adapted, tmp_path))
    made.assert_same_updates(lora, made.deltas(adapted))
    assert (list(lora), lora.provenance.ambiguities) == ([name], ())


def test_before_the_change_a_was_on_the_other_side(tmp_path):
    """peft 0.17 to 0.19.0: A over the second axis of (E, out, in), B over the third, delta = e i o."""
    experts, rank, hidden, inner = 3, 2, 6, 5
    shapes = {"experts.base_layer": (2 * inner, hidden), "experts": (hidden, inner)}
    tensors, expected = {}, {}
    for module, (first, second) in shapes.items():
        a = torch.randn(experts * rank, first)
        b = torch.randn(second, experts * rank)
        tensors |= {f"m.{module}.lora_A.weight": a, f"m.{module}.lora_B.weight": b}
        stacked_b = b.reshape(second, rank, experts)
        delta = torch.einsum("ore,eri->eio", stacked_b, a.reshape(experts, rank, first)) * 1.5
        parameter = "gate_up_proj" if "base" in module else "down_proj"
        expected |= {f"m.experts.{parameter}.{e}": delta[e] for e in range(experts)}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 3, "target_parameters": BOTH}
    for version in ("0.18.1", "0.21.2", None):  # the widths tell, whatever the version says
        (tmp_path / "adapter_config.json").write_text(
            json.dumps(config | {"peft_version": version})
        )
        lora = read_lora(tmp_path)
        made.assert_same_updates(lora, expected)
        assert lora.provenance.ambiguities == ()


def test_before_the_change_a_stack_alone_is_taken_as_that_version_wrote_it(tmp_path):
    a, b = torch.randn(6, 7), torch.randn(5, 6)
    save_file(
        {"m.experts.lora_A.weight": a, "m.experts.lora_B.weight": b},
        tmp_path / "adapter_model.safetensors",
    )
    config = {
        "r": 2,
        "lora_alpha": 2,
        "target_parameters": BOTH[1:],
        "peft_version": "0.18.1",
        "peft_type": "LORA",
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    lora = read_lora(tmp_path)
    assert lora["m.experts.down_proj.0"].shape == (7, 5)
    assert "the outputs are taken to be A's" in lora.provenance.ambiguities[0]


def test_experts_kept_apart_are_ordinary_layers(tmp_path):
    """Adapters of transformers 4, whose experts were modules."""
    tensors = {}
    for expert in range(2):
        tensors[f"base_model.model.m.experts.{expert}.w1.lora_A.weight"] = torch.randn(2, 4)
        tensors[f"base_model.model.m.experts.{expert}.w1.lora_B.weight"] = torch.randn(5, 2)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4}')
    lora = read_lora(tmp_path)
    assert list(lora) == ["m.experts.0.w1", "m.experts.1.w1"]
    assert lora.provenance.ambiguities == ()


def test_bare_parameter_names_leave_ordinary_layers_alone(tmp_path):
    """What peft writes after it converted an adapter of transformers 4: no module in front of the name."""
    config = LoraConfig(target_modules=["q_proj"], target_parameters=BOTH, r=4, lora_alpha=6)
    adapted = made.adapt(made.mixtral(), config)
    folder = made.save(adapted, tmp_path)
    edit_config(folder, target_parameters=["down_proj", "gate_up_proj"])
    lora = read_lora(folder)
    made.assert_same_updates(lora, made.deltas(adapted))
    assert lora.provenance.ambiguities == ()


@pytest.mark.parametrize(
    "changes",
    [{"target_parameters": None}, {"r": "absent"}, {"target_parameters": ["experts.one"]}],
)
def test_stacks_that_cannot_be_told_apart_are_kept_as_they_are(tmp_path, changes):
    config = LoraConfig(target_modules=["q_proj"], target_parameters=BOTH, r=4)
    folder = made.save(made.adapt(made.mixtral(), config), tmp_path)
    edit_config(folder, **changes)
    lora = read_lora(folder)
    assert list(lora) == [f"model.layers.{i}.self_attn.q_proj" for i in range(2)]
    sides = {name for name, side in lora.side.items() if side.kind == "native"}
    keys = load_file(folder / "adapter_model.safetensors")
    assert sides == {key.removeprefix("base_model.model.") for key in keys if "experts" in key}
    assert all(text.startswith("experts: the 2 wrappers") for text in lora.provenance.ambiguities)


def test_stacks_without_any_layer_are_refused(tmp_path):
    config = LoraConfig(target_modules=[], target_parameters=BOTH, r=4)
    folder = made.save(made.adapt(made.mixtral(), config), tmp_path)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(FormatError, match="no layer can be read"):
        read_lora(folder)


def test_unknown_parameters_leave_their_order_open(tmp_path):
    tensors = {
        "m.experts.lora_A.weight": torch.randn(6, 4),
        "m.experts.lora_B.weight": torch.randn(5, 6),
        "m.experts.base_layer.lora_A.weight": torch.randn(6, 4),
        "m.experts.base_layer.lora_B.weight": torch.randn(5, 6),
    }
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": 2,
        "target_parameters": ["experts.one", "experts.two"],
        "lora_alpha": 2,
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    texts = read_lora(tmp_path).provenance.ambiguities
    assert any("the order of the wrappers" in text for text in texts)


def test_unsloth_packing_is_flagged(tmp_path):
    config = LoraConfig(target_modules=[], target_parameters=BOTH, r=4)
    folder = made.save(made.adapt(made.mixtral(), config), tmp_path)
    edit_config(folder, base_model_name_or_path="unsloth/Mixtral-8x7B")
    assert any("Unsloth" in text for text in read_lora(folder).provenance.ambiguities)


def test_rank_that_does_not_divide_is_refused(tmp_path):
    config = LoraConfig(target_modules=[], target_parameters=BOTH, r=4)
    folder = made.save(made.adapt(made.mixtral(), config), tmp_path)
    edit_config(folder, r=5)
    with pytest.raises(FormatError, match="has 12 rows, expected a multiple of the rank 5"):
        read_lora(folder)


def test_shapes_that_do_not_fit_are_refused(tmp_path):
    pair = {
        "m.experts.lora_A.weight": torch.ones(6, 3),
        "m.experts.lora_B.weight": torch.ones(4, 6),
    }
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_parameters": BOTH[1:]})
    )
    extra = {"m.experts.lora_magnitude_vector": torch.ones(4)}
    bad = pair | {"m.experts.lora_B.weight": torch.ones(4, 5)}
    for tensors, message in (
        (pair | extra, "expected lora_A and lora_B"),
        (bad, "experts . r, in"),
    ):
        save_file(tensors, tmp_path / "adapter_model.safetensors")
        with pytest.raises(FormatError, match=message):
            read_lora(tmp_path)


def test_more_experts_than_the_cap_are_refused(tmp_path, monkeypatch):
    config = LoraConfig(target_modules=[], target_parameters=BOTH, r=4)
    folder = made.save(made.adapt(made.mixtral(), config), tmp_path)
    monkeypatch.setattr(peft_moe, "MAX_EXPERTS", 2)
    with pytest.raises(HostileFileError, match="3 experts, expected at most 2"):
        read_lora(folder)
