"""The spelling of sd-scripts and musubi-tuner for every architecture with a table, and back."""

import json
from dataclasses import replace

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import _convert_kohya_flux_lora_to_diffusers
from safetensors.torch import load_file

from lorascope.core import Kronecker, LoRA, LowRank, Provenance, Scale, Side
from lorascope.io import read_lora, write_lora
from lorascope.io.dialects.kohya_modules import ABSENT, modules_of
from lorascope.io.header import read_header
from lorascope.io.tensors import write_safetensors
from tests.io.adapters import quiet
from tests.io.networks import clip, flux, matrices, sd3, t5, unet

TE, TE2 = "text_encoder.text_model", "text_encoder_2.text_model"
WIDTH = 3072  # of the fused linear1 that diffusers' converter knows


def lora_of(components, ranks=(2,), keep=lambda name: True, alpha=3.0):
    """A pair for each matrix of the models, with alphas."""
    generator = torch.Generator().manual_seed(0)
    layers, scales = {}, {}
    for component, model in components.items():
        for place, (name, module) in enumerate(matrices(model).items()):
            if not keep(name):
                continue
            n, m, *kernel = module.weight.shape
            rank = ranks[place % len(ranks)]
            wide = m * (kernel[0] * kernel[1] if kernel else 1)
            u = torch.randn(n, rank, generator=generator)
            v = torch.randn(wide, rank, generator=generator)
            layers[f"{component}.{name}"] = LowRank(u, v, tuple(kernel))
            scales[f"{component}.{name}"] = Scale(alpha, rank, alpha / rank, "alpha/r")
    return LoRA(layers, {}, Provenance(scales=scales))


def there_and_back(value, tmp_path):
    """The prefixes and first words of the file; the LoRA is held to come back."""
    path = write_lora(value, tmp_path / "a.safetensors", format="kohya")
    again = read_lora(path)
    assert set(again) == set(value)
    assert again.provenance.outcome == "exact", again.provenance.ambiguities
    for name in value:
        assert again[name].rank == value[name].rank
        torch.testing.assert_close(again[name].dense_weight(), value[name].dense_weight())
        assert again.provenance.scales[name] == value.provenance.scales[name]
    second = write_lora(again, tmp_path / "b.safetensors", format="kohya")
    first_keys, second_keys = load_file(path), load_file(second)
    assert {key: t.shape for key, t in first_keys.items()} == {
        key: t.shape for key, t in second_keys.items()
    }
    return {key.partition(".")[0] for key in first_keys}


def starts(modules, *wanted):
    """Whether each module begins with one of the words, and each word is used."""
    assert all(module.startswith(wanted) for module in modules), sorted(modules)[:5]
    assert all(any(module.startswith(word) for module in modules) for word in wanted)


# diffusers keeps these three outside of what the authors' names have
def in_sd3(name):
    return (
        not name.startswith(("pos_embed", "time_text_embed", "context_embedder", "norm_out"))
        and "norm1_context" not in name
    )


def test_sdxl(tmp_path):
    modules = there_and_back(lora_of({"unet": unet(), TE: clip(), TE2: clip()}), tmp_path)
    parts = ("input_blocks", "middle_block", "output_blocks", "time_embed", "out")
    starts(
        modules, *(f"lora_unet_{x}_" for x in parts), "lora_te1_text_model_", "lora_te2_text_model_"
    )
    assert "lora_unet_output_blocks_2_2_conv" in modules
    assert "lora_unet_input_blocks_3_0_op" in modules
    assert "lora_unet_middle_block_1_transformer_blocks_1_attn1_to_q" in modules


def test_sd1(tmp_path):
    def keep(name):
        return "transformer_blocks.0" in name or "proj_in" in name

    modules = there_and_back(lora_of({"unet": unet()}, keep=keep), tmp_path)
    starts(modules, "lora_unet_down_blocks_", "lora_unet_mid_block_", "lora_unet_up_blocks_")


def test_flux(tmp_path):
    modules = there_and_back(
        lora_of({"transformer": flux(), TE: clip(), "text_encoder_2": t5()}), tmp_path
    )
    parts = (
        "double_blocks",
        "single_blocks",
        "img_in",
        "txt_in",
        "time_in",
        "vector_in",
        "guidance_in",
    )
    starts(
        modules,
        *(f"lora_unet_{part}" for part in parts),
        "lora_unet_final_layer",
        "lora_te1_text_model_",
        "lora_te3_encoder_block_",
    )
    assert {
        "lora_unet_double_blocks_1_txt_attn_qkv",
        "lora_unet_single_blocks_0_linear1",
    } <= modules


def test_sd3(tmp_path):
    models = {
        "transformer": sd3(),
        TE: clip(),
        TE2: clip(),
        "text_encoder_3": t5(),
    }
    value = lora_of(models, keep=in_sd3)
    modules = there_and_back(value, tmp_path)
    starts(
        modules,
        "lora_unet_joint_blocks_",
        "lora_unet_final_layer_linear",
        "lora_te1_",
        "lora_te2_",
        "lora_te3_",
    )
    assert {
        "lora_unet_joint_blocks_0_x_block_attn2_qkv",
        "lora_unet_joint_blocks_0_context_block_attn_qkv",
    } <= modules


def pairs(*names, n=16, m=16):
    torch.manual_seed(0)
    return LoRA(
        {f"transformer.{name}": LowRank(torch.randn(n, 2), torch.randn(m, 2)) for name in names}
    )


@pytest.mark.parametrize(
    ("names", "spelled"),
    [
        (("blocks.0.attn1.to_q", "blocks.11.attn2.add_k_proj", "blocks.0.ffn.net.0.proj",
          "condition_embedder.text_embedder.linear_1"),
         {"blocks_0_self_attn_q", "blocks_11_cross_attn_k_img", "blocks_0_ffn_0", "text_embedding_0"}),
        (("transformer_blocks.0.attn.to_q", "transformer_blocks.0.img_mlp.net.0.proj",
          "transformer_blocks.0.attn.add_q_proj"),
         {"transformer_blocks_0_attn_to_q", "transformer_blocks_0_img_mlp_net_0_proj",
          "transformer_blocks_0_attn_add_q_proj"}),
        (("transformer_blocks.0.attn1.to_q", "transformer_blocks.0.ff.net.2",
          "transformer_blocks.0.norm1.linear_1"),
         {"blocks_0_self_attn_q_proj", "blocks_0_mlp_layer2", "blocks_0_adaln_modulation_self_attn_1"}),
    ],
    ids=["wan", "qwen-image", "anima"],
)  # fmt: skip
def test_transformers_that_are_not_fused(tmp_path, names, spelled):
    value = pairs(*names)
    path = write_lora(value, tmp_path / "a.safetensors", format="kohya")
    assert {key.partition(".")[0].removeprefix("lora_unet_") for key in load_file(path)} == spelled
    again = read_lora(path)
    assert set(again) == set(value)
    assert all(
        torch.allclose(again[name].dense(), value[name].dense(), atol=1e-5) for name in value
    )


def test_a_part_that_is_not_there_is_zeros_and_goes_again(tmp_path):
    keep = "attn.to_q", "attn.to_k", "attn.to_v"
    value = lora_of(
        {"transformer": flux()},
        keep=lambda name: name.startswith("single_") and name.endswith(keep),
    )
    modules = there_and_back(value, tmp_path)
    starts(modules, "lora_unet_single_blocks_")
    assert any(
        note.startswith("absent: 2 layers")
        for note in read_lora(tmp_path / "a.safetensors").provenance.notes
    )
    one = lora_of(
        {"transformer": flux()}, keep=lambda name: name == "single_transformer_blocks.0.attn.to_v"
    )
    there_and_back(one, tmp_path / "one")


@pytest.mark.parametrize(
    "named", ["{", "[1, null]", '"x"', '["transformer.transformer_blocks.0.attn.to_q"]', "[" * 9999]
)
def test_metadata_cannot_hide_a_layer(tmp_path, named):
    value = lora_of({"transformer": flux()}, keep=lambda name: "to_q" in name or "single_" in name)
    value = LoRA({n: p for n, p in value.layers.items() if "to_" in n})
    path = write_lora(value, tmp_path / "a.safetensors", format="kohya")
    other = tmp_path / "b.safetensors"
    write_safetensors(other, load_file(path), {ABSENT: named})
    assert set(read_lora(other)) >= set(value)


def test_parts_of_two_ranks_keep_the_split_spelling(tmp_path):
    modules = there_and_back(lora_of({"transformer": flux()}, ranks=(2, 3, 4, 5)), tmp_path)
    starts(modules, "lora_transformer_")


def test_a_shared_v_stays_shared(tmp_path):
    v = torch.randn(16, 2)
    names = [f"transformer.single_transformer_blocks.0.attn.to_{x}" for x in "qkv"]
    value = LoRA({name: LowRank(torch.randn(16, 2), v) for name in names})
    (module,) = modules_of(value, ()).values()
    assert module.update.rank == 2
    path = write_lora(value, tmp_path / "a.safetensors", format="kohya")
    assert all(read_lora(path)[name].rank == 2 for name in names)


def test_what_could_be_another_architecture_keeps_the_split_spelling():
    for names in (["transformer_blocks.0.attn.to_q"], ["single_transformer_blocks.39.attn.to_q"],
                  ["context_embedder.token_refiner.x", "single_transformer_blocks.0.attn.to_q"]):  # fmt: skip
        modules = modules_of(pairs(*names[-1:]), ()) if len(names) == 1 else {}
        assert all(module.startswith("lora_transformer_") for module in modules)
    assert "lora_unet_joint_blocks_0_x_block_attn_qkv" in modules_of(
        pairs("transformer_blocks.0.attn.to_q", n=1536, m=1536), ()
    )


def test_flux_of_its_real_width_as_diffusers_splits_it(tmp_path):
    torch.manual_seed(0)
    block = "transformer.single_transformer_blocks.0"
    sizes = {"attn.to_q": WIDTH, "attn.to_k": WIDTH, "attn.to_v": WIDTH, "proj_mlp": 4 * WIDTH}
    layers = {
        f"{block}.{part}": LowRank(torch.randn(n, 1), torch.randn(WIDTH, 1))
        for part, n in sizes.items()
    }
    scales = {name: Scale(0.5, 1, 0.5, "alpha/r") for name in layers}
    path = write_lora(
        LoRA(layers, {}, Provenance(scales=scales)), tmp_path / "a.safetensors", format="kohya"
    )
    with quiet():
        state = _convert_kohya_flux_lora_to_diffusers(load_file(path))
    assert {key.rpartition(".lora_")[0] for key in state} == set(layers)
    for name, pair in layers.items():
        a, b = state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"]
        torch.testing.assert_close(b[:64] @ a, pair.u[:64] @ pair.v.T)
        torch.testing.assert_close(b @ a[:, :64], pair.u @ pair.v[:64].T)


def test_the_metadata_hold_what_is_absent(tmp_path):
    path = write_lora(
        pairs("single_transformer_blocks.0.attn.to_q"), tmp_path / "a.safetensors", format="kohya"
    )
    absent = json.loads(read_header(path).metadata[ABSENT])
    assert [name.rpartition("blocks.0.")[2] for name in absent] == [
        "attn.to_k",
        "attn.to_v",
        "proj_mlp",
    ]


def test_what_cannot_be_fused_without_loss_keeps_the_split_spelling():
    """Side tensors of a part, parts that are no pairs, sizes that another fused matrix has."""
    names = [f"transformer.single_transformer_blocks.0.attn.to_{x}" for x in "qkv"]
    value = pairs(*(name.removeprefix("transformer.") for name in names))
    rows = {f"{names[0]}.dora_magnitude": Side("dora_magnitude", torch.ones(16, 1))}
    native = {name: Kronecker(torch.ones(4, 4), torch.ones(4, 4)) for name in names}
    wide = {name: LowRank(torch.ones(24, 2), torch.ones(16, 2)) for name in names}
    for odd in (replace(value, side=rows), LoRA(native), LoRA(wide)):
        beside = [names[0]] if odd.side else []
        assert all(module.startswith("lora_transformer_") for module in modules_of(odd, beside))
