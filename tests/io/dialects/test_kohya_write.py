"""kohya's file and back: the same LoRA; and LyCORIS' loader agrees."""

from dataclasses import replace

import pytest
import torch
from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
from diffusers.loaders.lora_conversion_utils import _convert_kohya_flux_lora_to_diffusers
from safetensors.torch import load_file

from lorascope.core import LoRA, LowRank
from lorascope.core.lora import Provenance, Scale, Side
from lorascope.errors import FileError, FormatError
from lorascope.io import read_lora, write_lora
from lorascope.io.dialects.kohya_write import to_kohya
from tests.io.adapters import quiet
from tests.io.lyco import added, filled, gap, loaded
from tests.io.networks import flux, load_adapter, matrices, random_pair, unet
from tests.io.networks import same as updates

Q = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "unet.mid_block.resnets.0.conv1"
TE = "text_encoder.text_model.encoder.layers.0.mlp.fc1"
TE2 = TE.replace("encoder.", "encoder_2.", 1)
T5 = "text_encoder_2.encoder.block.0.layer.0.SelfAttention.q"
FLUX = "transformer.transformer_blocks.0.attn.to_q"


def lora(*names, **more):
    torch.manual_seed(0)
    layers = {name: LowRank(torch.randn(6, 2), torch.randn(4, 2)) for name in names}
    return LoRA(layers, **more)


def same(a, b):
    assert list(a) == list(b)
    for name in a:
        torch.testing.assert_close(a[name].dense_weight(), b[name].dense_weight())
        assert (a[name].rank, a[name].kernel) == (b[name].rank, b[name].kernel)
    assert {n: s.kind for n, s in a.side.items()} == {n: s.kind for n, s in b.side.items()}
    assert all(torch.equal(side.tensor, b.side[name].tensor) for name, side in a.side.items())


def test_there_and_back(tmp_path):
    scales = {Q: Scale(3.0, 2, 1.5, "alpha/r")}
    side = {f"{Q}.dora_magnitude": Side("dora_magnitude", torch.ones(6, 1)),
            f"{CONV}.diff_b": Side("diff_bias", torch.ones(6)),
            "bundle_emb.cat.clip_l": Side("token", torch.ones(2))}  # fmt: skip
    layers = dict(lora(TE, Q).layers) | {
        CONV: LowRank(torch.randn(6, 3), torch.randn(18, 3), (3, 3))
    }
    config = {"ss_output_name": "cat", "other": "x"}
    value = LoRA(layers, side, Provenance(scales=scales, config=config))
    path = write_lora(value, tmp_path / "a.safetensors", format="kohya")
    again = read_lora(path)
    same(again, value)
    assert again.provenance.scales[Q] == scales[Q]
    assert again.provenance.config["ss_output_name"] == "cat"
    assert again.provenance.writer.startswith("lorascope")
    second = write_lora(again, tmp_path / "b.safetensors", format="kohya")
    assert load_file(second).keys() == load_file(path).keys()
    same(read_lora(second), value)


def test_as_lycoris_loads_it():
    layer = filled(torch.nn.Linear(4, 6, bias=False))
    value = lora(Q, provenance=Provenance(scales={Q: Scale(3.0, 2, 1.5, "alpha/r")}))
    tensors, _ = to_kohya(value)
    module = loaded(tensors, f"lora_{Q.replace('.', '_')}", layer)
    assert gap(value[Q], added(module, layer)) < 1e-5


@pytest.mark.parametrize(
    ("names", "prefixes"),
    [((TE, Q), {"lora_te_text", "lora_unet_dow"}),
     ((TE, TE2), {"lora_te1_tex", "lora_te2_tex"}),
     ((FLUX,), {"lora_transfo"}), ((FLUX, T5), {"lora_transfo", "lora_te2_enc"})],
)  # fmt: skip
def test_prefixes(tmp_path, names, prefixes):
    path = write_lora(lora(*names), tmp_path / "a.safetensors", format="kohya")
    assert {key[:12] for key in load_file(path)} == {prefix[:12] for prefix in prefixes}
    assert set(read_lora(path)) == set(names)


def test_rank_0_is_a_column_of_zeros(tmp_path):
    value = LoRA({Q: LowRank(torch.zeros(6, 0), torch.zeros(4, 0))})
    again = read_lora(write_lora(value, tmp_path / "a.safetensors", format="kohya"))
    assert (again[Q].rank, float(again.norm())) == (1, 0.0)


def test_what_has_no_place(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(FormatError, match="no prefix"):
        write_lora(lora("model.layers.0.self_attn.q_proj"), path, format="kohya")
    with pytest.raises(FormatError, match="no place for the side tensor"):
        write_lora(lora(Q, side={"x.bias": Side("bias", torch.ones(1))}), path, format="kohya")
    with pytest.raises(FormatError, match="no layers"):
        write_lora(LoRA({}), path, format="kohya")
    with pytest.raises(FormatError, match="one file"):
        write_lora(lora(Q), tmp_path / "folder", format="kohya")
    write_lora(lora(Q), path, format="kohya")
    with pytest.raises(FileError, match="overwrite=True"):
        write_lora(lora(Q), path, format="kohya")
    write_lora(replace(lora(Q), side={}), path, format="kohya", overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="Writing to"):
        write_lora(lora(Q), tmp_path / "file" / "a.safetensors", format="kohya")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "file"]


def test_as_diffusers_loads_it(tmp_path):
    generator = torch.Generator().manual_seed(0)
    model, layers = unet(), {}
    for name, module in matrices(model).items():
        if "attn" in name or ".ff." in name:
            down, up = random_pair(module, 2, generator)
            layers[f"unet.{name}"] = LowRank(up.flatten(1), down.flatten(1).T)
    scales = {name: Scale(3.0, 2, 1.5, "alpha/r") for name in layers}
    value = LoRA(layers, {}, Provenance(scales=scales))
    path = write_lora(value, tmp_path / "a.safetensors", format="kohya")
    with quiet():
        state, alphas = StableDiffusionXLLoraLoaderMixin.lora_state_dict(
            load_file(path), unet_config=model.config
        )[:2]
    updates(value, load_adapter(model, state, prefix="unet", network_alphas=alphas))


def test_a_transformer_as_diffusers_loads_it(tmp_path):
    generator = torch.Generator().manual_seed(0)
    model, layers = flux(), {}
    for name, module in matrices(model).items():
        # diffusers' converter knows fewer layers than it has, and one width of a fused linear1
        known = "attn." in name or "single_" in name
        wide = "single_" in name and ("attn." in name or "proj_mlp" in name)
        if known and not wide:
            down, up = random_pair(module, 2, generator)
            layers[f"transformer.{name}"] = LowRank(up, down.T)
    value = LoRA(layers)
    path = write_lora(value, tmp_path / "a.safetensors", format="kohya")
    assert any("lora_unet_double_blocks_0_img_attn_qkv" in key for key in load_file(path))
    with quiet():
        state = _convert_kohya_flux_lora_to_diffusers(load_file(path))
    updates(value, load_adapter(model, state))
