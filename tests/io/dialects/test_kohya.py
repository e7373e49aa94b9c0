"""kohya's grammar against diffusers' loader and against LyCORIS' loader."""

import json

import pytest
import torch
from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
from diffusers.loaders.lora_conversion_utils import _convert_kohya_flux_lora_to_diffusers
from lycoris import LycorisNetwork, create_lycoris
from safetensors.torch import save_file
from torch import nn

from lorascope.io import read_lora, sniff
from tests.io.adapters import quiet
from tests.io.networks import flux, load_adapter, matrices, random_pair, same, unet


def kohya(model, prefix, *, ranks=(2, 3), alpha=True, keep=lambda name: True):
    """A file of kohya's grammar for a model whose names are those of diffusers, ranks from block to block."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for place, (name, module) in enumerate(m for m in matrices(model).items() if keep(m[0])):
        flat = f"{prefix}_{name.replace('.', '_')}"
        rank = ranks[place % len(ranks)]
        down, up = random_pair(module, rank, generator)
        tensors |= {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up}
        if alpha:
            tensors[f"{flat}.alpha"] = torch.tensor(1.5)  # diffusers mistakes alphas that differ
    return tensors


def transformer_only(name):
    return "attn" in name or ".ff." in name or "proj_" in name


@pytest.mark.parametrize("alpha", [True, False])
def test_a_unet_as_diffusers_loads_it(tmp_path, alpha):
    model = unet()
    tensors = kohya(model, "lora_unet", alpha=alpha, keep=transformer_only)
    save_file(tensors, tmp_path / "a.safetensors", {"ss_network_module": "networks.lora"})
    lora = read_lora(tmp_path / "a.safetensors")
    with quiet():
        state, alphas = StableDiffusionXLLoraLoaderMixin.lora_state_dict(
            dict(tensors), unet_config=model.config
        )[:2]
    deltas = load_adapter(model, state, prefix="unet", network_alphas=alphas)
    same(lora, deltas)
    assert lora.provenance.outcome == "exact"
    assert (lora.provenance.format, lora.provenance.writer) == ("kohya", "sd-scripts")
    assert sniff(tmp_path / "a.safetensors").format == "kohya"


def test_half_precision_within_its_rounding(tmp_path):
    model = unet()
    tensors = kohya(model, "lora_unet", keep=transformer_only)
    save_file({key: tensor.half() for key, tensor in tensors.items()}, tmp_path / "a.safetensors")
    save_file(tensors, tmp_path / "b.safetensors")
    lora, full = read_lora(tmp_path / "a.safetensors"), read_lora(tmp_path / "b.safetensors")
    for name in full:
        assert float((lora[name].dense() - full[name].dense()).norm() / full[name].norm()) < 1e-2


FUSED = {
    "double_blocks_0_img_attn_qkv": (48, 16), "double_blocks_0_txt_attn_qkv": (48, 16),
    "double_blocks_0_img_attn_proj": (16, 16), "double_blocks_0_txt_attn_proj": (16, 16),
    "double_blocks_0_img_mlp_0": (64, 16), "double_blocks_0_img_mlp_2": (16, 64),
    "double_blocks_0_txt_mlp_0": (64, 16), "double_blocks_1_txt_mlp_2": (16, 64),
    "double_blocks_0_img_mod_lin": (96, 16), "double_blocks_1_txt_mod_lin": (96, 16),
    "single_blocks_1_linear2": (16, 80), "single_blocks_1_modulation_lin": (48, 16),
}  # fmt: skip


def fused_flux(rank=4):
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, (n, m) in FUSED.items():
        tensors[f"lora_unet_{name}.lora_down.weight"] = torch.randn(rank, m, generator=generator)
        tensors[f"lora_unet_{name}.lora_up.weight"] = torch.randn(n, rank, generator=generator)
        tensors[f"lora_unet_{name}.alpha"] = torch.tensor(2.0)
    return tensors


def test_fused_flux_reads_as_diffusers_splits_it(tmp_path):
    tensors = fused_flux()
    save_file(tensors, tmp_path / "a.safetensors")
    with quiet():
        state = _convert_kohya_flux_lora_to_diffusers(dict(tensors))
    lora = read_lora(tmp_path / "a.safetensors")
    deltas = load_adapter(flux(), state)
    same(lora, deltas)
    assert lora.provenance.outcome == "exact"
    save_file({key: t.clone() for key, t in state.items()}, tmp_path / "b.safetensors")
    same(read_lora(tmp_path / "b.safetensors"), deltas)


def test_the_fused_linear_of_a_single_block(tmp_path):
    up, down = torch.randn(7 * 16, 4), torch.randn(4, 16)
    name = "lora_unet_single_blocks_0_linear1"
    save_file(
        {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}, tmp_path / "a.safetensors"
    )
    lora = read_lora(tmp_path / "a.safetensors")
    block = "transformer.single_transformer_blocks.0"
    order = [f"{block}.{part}" for part in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]
    assert set(lora) == set(order)
    torch.testing.assert_close(torch.cat([lora[name].dense() for name in order]), up @ down)


def test_split_qkv_is_flagged_with_both_scales(tmp_path):
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    pieces = [torch.randn(16, 2) for _ in range(3)]
    tensors = {
        f"{name}.lora_up.weight": torch.block_diag(*pieces),
        f"{name}.lora_down.weight": torch.randn(6, 16),
        f"{name}.alpha": torch.tensor(3.0),
    }
    arguments = {"ss_network_args": json.dumps({"split_qkv": "True"})}
    save_file(tensors, tmp_path / "a.safetensors", arguments)
    lora = read_lora(tmp_path / "a.safetensors")
    assert {pair.rank for pair in lora.layers.values()} == {2}
    together = torch.cat(
        [lora[f"transformer.transformer_blocks.0.attn.to_{x}"].dense() for x in "qkv"]
    )
    torch.testing.assert_close(
        together, tensors[f"{name}.lora_up.weight"] @ tensors[f"{name}.lora_down.weight"] / 2
    )
    (ambiguity,) = lora.provenance.ambiguities
    assert ambiguity.startswith("split_qkv: ")
    assert "1.5" in ambiguity
    assert "0.5" in ambiguity
    save_file(tensors, tmp_path / "b.safetensors")
    assert any(
        note.startswith("split: ")
        for note in read_lora(tmp_path / "b.safetensors").provenance.notes
    )


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(24, 36, bias=False)
        self.conv = nn.Conv2d(16, 24, 3)


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [("lora", {}), ("loha", {}), ("lokr", {"factor": 4, "decompose_both": True}),
     ("lora", {"use_tucker": True})],
)  # fmt: skip
def test_a_network_that_lycoris_wrote(tmp_path, algorithm, options):
    model = Block()
    with quiet():
        LycorisNetwork.apply_preset({"target_module": ["Block"]})
        network = create_lycoris(model, 1.0, linear_dim=3, linear_alpha=1.5, conv_dim=1,
                                 conv_alpha=2.0, algo=algorithm, **options)  # fmt: skip
        network.apply_to()
        network.eval()
        for parameter in network.parameters():
            parameter.data = torch.randn_like(parameter) / 4
        network.save_weights(str(tmp_path / "a.safetensors"), torch.float32, {})
        lora = read_lora(tmp_path / "a.safetensors")
    assert lora.provenance.format == "lycoris"
    for module in network.loras:
        layer = module.org_module[0]
        size = layer.weight[0].numel()
        ones = torch.eye(size).reshape(size, *layer.weight.shape[1:])
        with quiet(), torch.no_grad():
            zero = torch.zeros_like(ones)
            full = (module(ones) - module(zero)) - (
                module.org_forward(ones) - module.org_forward(zero)
            )
        name = next(
            n
            for n in lora
            if n.replace(".", "_").endswith(module.lora_name.removeprefix("lycoris_"))
        )
        delta = full.flatten(1).T.double()
        gap = (lora[name].dense().double() - delta).norm() / delta.norm()
        assert float(gap) < 2e-5, (name, float(gap))


def test_ia3_oft_glora_full_and_norms_are_read_in_part_or_beside(tmp_path):
    tensors = {
        "lora_unet_mid_block_attentions_0_proj_in.weight": torch.ones(8),
        "lora_unet_mid_block_attentions_0_proj_in.on_input": torch.tensor(1),
        "lora_unet_mid_block_attentions_0_proj_out.oft_blocks": torch.zeros(2, 4, 4),
        "lora_unet_mid_block_resnets_0_conv1.diff": torch.ones(4, 4, 3, 3),
        "lora_unet_mid_block_resnets_0_conv1.diff_b": torch.ones(4),
        "lora_unet_mid_block_resnets_0_norm1.w_norm": torch.ones(4),
        "lora_unet_mid_block_resnets_0_norm1.b_norm": torch.ones(4),
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight": torch.ones(
            2, 8
        ),
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight": torch.ones(
            8, 2
        ),
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.dora_scale": torch.ones(
            1, 8
        ),
        "bundle_emb.cat.clip_l": torch.ones(2, 8),
        "surprise": torch.ones(3),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    lora = read_lora(tmp_path / "a.safetensors")
    assert (len(lora), lora.provenance.outcome) == (1, "part")
    assert {line.partition(":")[0] for line in lora.provenance.left} == {
        "ia3", "oft", "dora_columns", "unknown"
    }  # fmt: skip
    in_layers = 2
    assert len(lora.side) + in_layers == len(tensors)
    kinds = {name: side.kind for name, side in lora.side.items()}
    block = "unet.mid_block"
    assert kinds[f"{block}.resnets.0.conv1.diff"] == "diff"
    assert kinds[f"{block}.resnets.0.norm1.w_norm"] == "norm"
    assert kinds["bundle_emb.cat.clip_l"] == "token"


def test_names_that_cannot_be_undone_stay_and_are_named(tmp_path):
    tensors = {
        "lora_unet_strange_part_0_to_q.lora_down.weight": torch.ones(2, 4),
        "lora_unet_strange_part_0_to_q.lora_up.weight": torch.ones(4, 2),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    lora = read_lora(tmp_path / "a.safetensors")
    assert list(lora) == ["lora_unet_strange_part_0_to_q"]
    assert lora.provenance.outcome == "ambiguous"
    assert lora.provenance.ambiguities[0].startswith("names: 1 modules")
