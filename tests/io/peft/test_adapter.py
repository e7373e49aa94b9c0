"""The PEFT reader against peft: u v^T equals what peft adds to the weight, for every kind of layer."""

import json

import pytest
import torch
from peft import AdaLoraConfig, LoraConfig
from safetensors.torch import load_file, save_file

from lorascope.errors import FormatError
from lorascope.io.read import read_lora
from tests.io import adapters as made

QV = ["q_proj", "v_proj"]


def read(adapted, folder):
    return read_lora(made.save(adapted, folder))


CASES = {
    "linear": (made.llama, {"target_modules": QV, "r": 4, "lora_alpha": 6}),
    "all linear": (made.qwen2, {"target_modules": "all-linear", "r": 2, "lora_alpha": 5}),
    "rslora": (made.llama, {"target_modules": QV, "r": 4, "lora_alpha": 6, "use_rslora": True}),
    "fan in fan out": (made.gpt2, {"target_modules": ["c_attn", "c_proj"], "r": 3, "fan_in_fan_out": True}),
    "rank pattern": (
        made.llama,
        {
            "target_modules": QV,
            "r": 4,
            "lora_alpha": 7,
            # in the order of the file: peft sorts its rules when it saves them
            "rank_pattern": {"0.self_attn.q_proj": 3, r"layers\.1\..*q_proj": 2, "q_proj": 9},
            "alpha_pattern": {"1.self_attn.v_proj": 13, "v_proj": 11},
        },
    ),
    "embedding": (made.llama, {"target_modules": ["embed_tokens", "q_proj"], "r": 4, "lora_alpha": 6}),
    "bias": (made.llama, {"target_modules": QV, "r": 4, "lora_bias": True}),
    "mica": (made.llama, {"target_modules": QV, "r": 4, "init_lora_weights": "mica"}),
    "convolutions": (
        made.Convolutions,
        {"target_modules": ["one", "two", "point", "three"], "r": 4, "lora_alpha": 6},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_update_is_what_peft_adds(case, tmp_path):
    model, options = CASES[case]
    adapted = made.adapt(model(), LoraConfig(**options))
    lora = read(adapted, tmp_path)
    made.assert_same_updates(lora, made.deltas(adapted))
    assert lora.provenance.ambiguities == ()
    assert lora.provenance.format == "peft"
    assert lora.provenance.writer.startswith("peft 0.")


def test_scales_are_kept_raw(tmp_path):
    model, options = CASES["rank pattern"]
    scales = read(made.adapt(model(), LoraConfig(**options)), tmp_path).provenance.scales
    found = {name: (s.alpha, s.rank, s.factor, s.rule) for name, s in scales.items()}
    assert found == {
        "model.layers.0.self_attn.q_proj": (7.0, 3, 7 / 3, "alpha/r"),
        "model.layers.0.self_attn.v_proj": (11.0, 4, 11 / 4, "alpha/r"),
        "model.layers.1.self_attn.q_proj": (7.0, 2, 7 / 2, "alpha/r"),
        "model.layers.1.self_attn.v_proj": (13.0, 4, 13 / 4, "alpha/r"),
    }


def test_layers_come_in_natural_order(tmp_path):
    model, options = CASES["all linear"]
    names = list(read(made.adapt(model(), LoraConfig(**options)), tmp_path))
    numbers = [int(name.split(".")[2]) for name in names]
    assert numbers == sorted(numbers)
    assert max(numbers) == 10


def test_embedding_is_transposed(tmp_path):
    model, options = CASES["embedding"]
    lora = read(made.adapt(model(), LoraConfig(**options)), tmp_path)
    assert lora["model.embed_tokens"].shape == (32, 16)
    assert lora.provenance.kinds == {"model.embed_tokens": "embedding"}
    # peft saves the weight of an adapted embedding beside it
    assert lora.side["model.embed_tokens.weight"].kind == "embedding"


def test_convolutions_keep_their_kernel(tmp_path):
    model, options = CASES["convolutions"]
    lora = read(made.adapt(model(), LoraConfig(**options)), tmp_path)
    kernels = {name: lora[name].kernel for name in lora}
    assert kernels == {"one": (3,), "point": (1, 1), "three": (2, 2, 2), "two": (3, 2)}
    assert lora["two"].dense_weight().shape == (8, 4, 3, 2)


def test_grouped_convolution_is_the_operator_that_peft_runs(tmp_path):
    model = made.Convolutions()
    adapted = made.adapt(model, LoraConfig(target_modules=["grouped"], r=4, lora_alpha=6))
    lora = read(adapted, tmp_path)
    x = torch.randn(2, 4, 5, 5)
    layer = adapted.base_model.model.grouped
    with torch.no_grad():
        expected = layer(x) - layer.base_layer(x)
        got = torch.nn.functional.conv2d(x, lora["grouped"].dense_weight())
    assert torch.allclose(got, expected, atol=1e-4)
    assert any(note.startswith("grouped: ") for note in lora.provenance.notes)


def test_attention_module(tmp_path):
    rules = {"rank_pattern": {"attn": 2}, "alpha_pattern": {"attn": 5}}
    config = LoraConfig(target_modules=["attn", "head"], r=4, lora_alpha=6, **rules)
    adapted = made.adapt(made.Attention(), config)
    lora = read(adapted, tmp_path)
    made.assert_same_updates(lora, made.deltas(adapted))
    assert set(lora) == {"attn", "attn.out_proj", "head"}
    # the rules know the wrapper only; what is inside follows it
    assert [scale.alpha for scale in lora.provenance.scales.values()] == [5.0, 5.0, 6.0]
    assert lora.provenance.ambiguities == ()


def test_lora_bias_is_scaled(tmp_path):
    adapted = made.adapt(
        made.llama(), LoraConfig(target_modules=QV, r=4, lora_alpha=6, lora_bias=True)
    )
    lora = read(adapted, tmp_path)
    layer = adapted.base_model.model.model.layers[1].self_attn.q_proj
    side = lora.side["model.layers.1.self_attn.q_proj.lora_bias"]
    assert side.kind == "lora_bias"
    assert torch.allclose(side.tensor, layer.lora_B["default"].bias * 6 / 4)


@pytest.mark.parametrize("ending", ["", ".weight"])
def test_dora_is_kept_and_flagged(tmp_path, ending):
    adapted = made.adapt(made.llama(), LoraConfig(target_modules=QV, r=4, use_dora=True))
    folder = made.save(adapted, tmp_path)
    tensors = {
        key + (ending if key.endswith("lora_magnitude_vector") else ""): tensor
        for key, tensor in load_file(folder / "adapter_model.safetensors").items()
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    lora = read_lora(folder)
    made.assert_same_updates(lora, made.deltas(adapted))
    layer = adapted.base_model.model.model.layers[0].self_attn.v_proj
    side = lora.side["model.layers.0.self_attn.v_proj.dora_magnitude"]
    assert side.kind == "dora_magnitude"
    assert torch.equal(side.tensor, layer.lora_magnitude_vector["default"].weight)
    assert any(note.startswith("use_dora: ") for note in lora.provenance.notes)
    assert lora.provenance.outcome == "part"
    assert lora.provenance.left[0].startswith("dora_rows: 4 layers")


def test_dora_without_its_flag_is_flagged(tmp_path):
    folder = made.save(
        made.adapt(made.llama(), LoraConfig(target_modules=QV, use_dora=True)), tmp_path
    )
    (folder / "adapter_config.json").unlink()
    notes = read_lora(folder).provenance.notes
    assert any(note.startswith("use_dora: ") for note in notes)


def test_replaced_modules_and_trained_biases_are_kept(tmp_path):
    config = LoraConfig(target_modules=["attn"], modules_to_save=["head"])
    adapted = made.adapt(made.Attention(), config)
    lora = read(adapted, tmp_path)
    head = adapted.base_model.model.head.modules_to_save["default"]
    assert {name: side.kind for name, side in lora.side.items()} == {
        "head.weight": "full",
        "head.bias": "full",
    }
    assert torch.equal(lora.side["head.weight"].tensor, head.weight)
    assert any(note.startswith("side: 2 tensors of kind 'full'") for note in lora.provenance.notes)


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases(tmp_path, bias):
    lora = read(made.adapt(made.gpt2(), LoraConfig(target_modules=["c_attn"], bias=bias)), tmp_path)
    kinds = {name: side.kind for name, side in lora.side.items()}
    assert set(kinds.values()) == {"bias"}
    assert "transformer.h.0.attn.c_attn.bias" in kinds
    assert ("transformer.ln_f.bias" in kinds) == (bias == "all")


def test_trained_tokens(tmp_path):
    config = LoraConfig(target_modules=QV, trainable_token_indices={"embed_tokens": [1, 5]})
    lora = read(made.adapt(made.llama(), config), tmp_path)
    side = lora.side["model.embed_tokens.trainable_tokens_delta"]
    assert (side.kind, tuple(side.tensor.shape)) == ("token_delta", (2, 16))
    assert any(note.startswith("trainable_token_indices: ") for note in lora.provenance.notes)


def test_dump_of_a_whole_model(tmp_path):
    """torch.save(model.state_dict()) leaves prefix, adapter names, wrappers and base weights in."""
    config = LoraConfig(target_modules=["attn", "head"], lora_alpha=6, r=3)
    adapted = made.adapt(made.Attention(), config)
    made.save(adapted, tmp_path)
    dump = {key: tensor.clone() for key, tensor in adapted.state_dict().items()}
    save_file(dump, tmp_path / "adapter_model.safetensors")
    lora = read_lora(tmp_path)
    made.assert_same_updates(lora, made.deltas(adapted))
    assert lora.side["head.weight"].kind == "base"
    assert lora.side["attn.in_proj_weight"].kind == "base"


def test_dump_with_a_replaced_module(tmp_path):
    adapted = made.adapt(
        made.Attention(), LoraConfig(target_modules=["attn"], modules_to_save=["head"])
    )
    made.save(adapted, tmp_path)
    save_file(
        {k: t.clone() for k, t in adapted.state_dict().items()},
        tmp_path / "adapter_model.safetensors",
    )
    lora = read_lora(tmp_path)
    saved = adapted.base_model.model.head.modules_to_save["default"]
    assert lora.side["head.weight"].kind == "full"
    assert torch.equal(lora.side["head.weight"].tensor, saved.weight)
    assert lora.side["head.original_module.weight"].kind == "native"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("alpha", "expected"), [(4, "half"), (6, "single")])
def test_half_precision_becomes_single_where_scaled(tmp_path, dtype, alpha, expected):
    config = LoraConfig(target_modules=QV, r=4, lora_alpha=alpha)
    adapted = made.adapt(made.llama().to(dtype), config)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:  # peft keeps adapters of half models in fp32
            parameter.data = parameter.data.to(dtype)
    lora = read(adapted, tmp_path)
    assert {pair.dtype for pair in lora.layers.values()} == {
        dtype if expected == "half" else torch.float32
    }
    exact = {name: delta.double() for name, delta in made.deltas(adapted.float()).items()}
    made.assert_same_updates(lora, exact)


def test_adalora(tmp_path):
    config = AdaLoraConfig(target_modules=QV, init_r=6, target_r=3, lora_alpha=8, total_step=10)
    adapted = made.adapt(made.llama(), config)
    lora = read(adapted, tmp_path / "whole")
    made.assert_same_updates(lora, made.deltas(adapted))
    scale = lora.provenance.scales["model.layers.0.self_attn.q_proj"]
    assert (scale.alpha, scale.rank, scale.rule) == (8.0, 6, "alpha/(r+1e-5)")

    # after training peft keeps some ranks of each layer, the scale stays that of init_r
    masks = {
        f"model.layers.{i}.self_attn.{p}.lora_E": [
            (i + j) % 3 == 0 and p == "q_proj" for j in range(6)
        ]
        for i in range(2)
        for p in QV
    }
    adapted.peft_config["default"].rank_pattern = masks
    adapted.base_model.resize_modules_by_rank_pattern(dict(masks), "default")
    lora = read(adapted, tmp_path / "pruned")
    assert [pair.rank for pair in lora.layers.values()] == [2, 0, 2, 0]
    expected = made.deltas(adapted)
    made.assert_same_updates(
        lora.select(name for name in lora if lora[name].rank),
        {name: delta for name, delta in expected.items() if lora[name].rank},
    )


def test_kasa(tmp_path):
    from peft import KasaConfig

    adapted = made.adapt(made.llama(), LoraConfig(target_modules=QV, r=4, kasa_config=KasaConfig()))
    lora = read(adapted, tmp_path)
    layer = adapted.base_model.model.model.layers[0].self_attn.q_proj
    expected = layer.lora_variant["default"]._get_delta_weight(layer, "default")
    got = made.update_of(lora["model.layers.0.self_attn.q_proj"])
    assert torch.allclose(got, expected.double(), atol=1e-5)
    assert any(note.startswith("base_changed: KaSA") for note in lora.provenance.notes)


def test_block_diagonal(tmp_path):
    from peft import BdLoraConfig

    blocks = BdLoraConfig(
        target_modules_bd_a=["o_proj"],
        target_modules_bd_b=["q_proj"],
        nblocks=2,
        match_strict=False,
    )
    config = LoraConfig(
        target_modules=["q_proj", "o_proj", "v_proj"], r=4, lora_alpha=6, use_bdlora=blocks
    )
    adapted = made.adapt(made.llama(), config)
    lora = read(adapted, tmp_path)
    for name in lora:
        layer = adapted.base_model.model.get_submodule(name)
        if "v_proj" in name:
            expected = layer.get_delta_weight("default")
        else:
            expected = layer.lora_variant["default"]._get_bdlora_delta_weight(layer, "default")
        assert torch.allclose(made.update_of(lora[name]), expected.double(), atol=1e-5)
    assert any(note.startswith("use_bdlora: ") for note in lora.provenance.notes)


def test_monteclora_keeps_its_samplers_beside(tmp_path):
    from peft import MontecloraConfig

    config = LoraConfig(
        target_modules=["q_proj"], r=4, monteclora_config=MontecloraConfig(num_samples=2)
    )
    adapted = made.adapt(made.llama(), config)
    lora = read(adapted, tmp_path)
    made.assert_same_updates(lora, made.deltas(adapted))
    assert {side.kind for side in lora.side.values()} == {"native"}


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_2", "olora"])
def test_changed_bases_are_flagged(tmp_path, init):
    lora = read(
        made.adapt(made.llama(), LoraConfig(target_modules=QV, r=2, init_lora_weights=init)),
        tmp_path,
    )
    assert any(
        note.startswith(f"base_changed: init_lora_weights is '{init}'")
        for note in lora.provenance.notes
    )


def test_a_converted_pissa_adapter_is_exact(tmp_path):
    """peft can save [A; A0], [B, -B0] of rank 2 r, which is relative to the published weights."""
    model = made.llama()
    name = "model.layers.0.self_attn.q_proj"
    published = model.get_submodule(name).weight.detach().clone()
    with made.quiet():
        adapted = made.get_peft_model(
            model, LoraConfig(target_modules=QV, r=2, init_lora_weights="pissa")
        )
        adapted.peft_config["default"].init_lora_weights = True
        made.save(adapted, tmp_path / "start")
        adapted.peft_config["default"].init_lora_weights = "pissa"
        for key, parameter in adapted.named_parameters():
            if "lora_" in key:
                parameter.data += 0.1 * torch.randn_like(parameter)
        start = str(tmp_path / "start")
        made.save(adapted, tmp_path / "end", path_initial_model_for_weight_conversion=start)
    lora = read_lora(tmp_path / "end")
    layer = adapted.base_model.model.get_submodule(name)
    trained = layer.base_layer.weight + layer.get_delta_weight("default")
    made.assert_same_updates(lora.select([name]), {name: (trained - published).detach()}, 1e-5)
    assert lora[name].rank == 4
    assert (lora.provenance.ambiguities, lora.provenance.notes) == ((), ())


def test_missing_configuration_is_an_ambiguity(tmp_path):
    adapted = made.adapt(made.llama(), LoraConfig(target_modules=QV, r=4, lora_alpha=8))
    folder = made.save(adapted, tmp_path)
    (folder / "adapter_config.json").unlink()
    lora = read_lora(folder)
    assert [text.split(":")[0] for text in lora.provenance.ambiguities] == ["scale"]
    made.assert_same_updates(
        lora, {name: delta / 2 for name, delta in made.deltas(adapted).items()}
    )
    scale = lora.provenance.scales["model.layers.0.self_attn.q_proj"]
    assert (scale.alpha, scale.factor, scale.rule) == (None, 1.0, "1 (no config)")


def change_keys(folder, change):
    path = folder / "adapter_model.safetensors"
    save_file({change(key): tensor for key, tensor in load_file(path).items()}, path)


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key.removeprefix("base_model.model."),
        lambda key: key.replace(".weight", ".default.weight"),
        lambda key: key.replace(".weight", ".my_adapter.weight"),
    ],
)
def test_other_spellings_are_the_same_adapter(tmp_path, change):
    adapted = made.adapt(made.llama(), LoraConfig(target_modules=QV, r=4, lora_alpha=8))
    folder = made.save(adapted, tmp_path)
    change_keys(folder, change)
    made.assert_same_updates(read_lora(folder), made.deltas(adapted))


def test_rank_that_contradicts_the_configuration_is_an_ambiguity(tmp_path):
    folder = made.save(made.adapt(made.llama(), LoraConfig(target_modules=QV, r=4)), tmp_path)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"r": 16}))
    lora = read_lora(folder)
    assert len([a for a in lora.provenance.ambiguities if a.startswith("rank: ")]) == 4


def test_values_that_are_not_finite_are_noted(tmp_path):
    adapted = made.adapt(made.llama(), LoraConfig(target_modules=QV, r=4))
    layer = adapted.base_model.model.model.layers[1].self_attn.v_proj
    layer.lora_A["default"].weight.data[0, 0] = torch.nan
    notes = read(adapted, tmp_path).provenance.notes
    assert [note for note in notes if note.startswith("nonfinite: 1 ")]
    assert "model.layers.1.self_attn.v_proj" in notes[-1]


def test_large_finite_values_are_finite(tmp_path):
    adapted = made.adapt(made.llama(), LoraConfig(target_modules=QV, r=8))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = torch.full_like(parameter, 3e38)
    assert not [
        note for note in read(adapted, tmp_path).provenance.notes if note.startswith("nonfinite")
    ]


def test_two_keys_of_one_tensor_are_refused(tmp_path):
    pair = {"m.q.lora_A.weight": torch.ones(1, 2), "m.q.lora_B.weight": torch.ones(2, 1)}
    again = {"m.q.lora_A.weight": torch.ones(1, 2)}
    cases = {
        "lora_A of layer 'm.q'": pair | {f"base_model.model.{k}": t for k, t in again.items()},
        "the tensor 'm.head.weight'": pair
        | {"m.head.weight": torch.ones(1), "base_model.model.m.head.weight": torch.ones(1)},
        "the layer 'm.q'": pair
        | {k.replace("m.q", "m.base_layer.q"): t.clone() for k, t in pair.items()},
    }
    for message, tensors in cases.items():
        path = tmp_path / "file.safetensors"
        save_file(tensors, path)
        with pytest.raises(FormatError, match=message.replace(".", r"\.")):
            read_lora(path)


def test_side_tensors_of_eight_bits(tmp_path):
    tensors = {
        "m.q.lora_A.weight": torch.ones(1, 2),
        "m.q.lora_B.weight": torch.ones(2, 1),
        "m.q.lora_B.bias": torch.ones(2).to(torch.float8_e4m3fn),
        "m.head.weight": torch.tensor([1.0, torch.nan]).to(torch.float8_e4m3fn),
    }
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "lora_alpha": 3}')
    lora = read_lora(tmp_path)
    assert lora.side["m.q.lora_bias"].tensor.tolist() == [3.0, 3.0]
    assert lora.provenance.notes[-1].startswith("nonfinite: 1 layers or side tensors")


def test_keys_without_a_module_are_refused(tmp_path):
    path = tmp_path / "file.safetensors"
    save_file({"lora_A.weight": torch.ones(1, 2)}, path)
    with pytest.raises(FormatError, match=r"'lora_A\.weight' names no module"):
        read_lora(path)


def test_tensors_without_a_factor_are_refused():
    from lorascope.io.peft.adapter import read_peft
    from lorascope.io.peft.config import PeftConfig
    from lorascope.io.tensors import TensorFile

    with pytest.raises(FormatError, match="none of its 1 tensors is a factor"):
        read_peft(TensorFile({"x": torch.ones(1)}), PeftConfig(None, "file"), "file")
