"""Every tensor of a file is accounted for."""

import pytest
import torch

from lorascope.core import Kronecker
from lorascope.errors import FormatError
from lorascope.io.assemble import assemble


def pair(module, n=6, m=4, r=2):
    return {
        f"{module}.lora_down.weight": torch.randn(r, m),
        f"{module}.lora_up.weight": torch.randn(n, r),
    }


def test_two_spellings_of_one_layer():
    tensors = pair("lora_unet_mid_block_attentions_0_proj_in") | pair(
        "unet.mid_block.attentions.0.proj_in"
    )
    with pytest.raises(FormatError, match="two of its keys name the layer"):
        assemble(tensors, "a file", "kohya")


def test_an_empty_file():
    with pytest.raises(FormatError, match="holds no tensors"):
        assemble({}, "a file", "kohya").lora({}, None, None)


def test_the_halves_of_the_last_modulation_change_places():
    tensors = pair("final_layer.adaLN_modulation.1") | {
        "final_layer.adaLN_modulation.1.lora_B.bias": torch.arange(6.0)
    }
    lora = assemble(tensors, "a file", "bfl").lora({}, None, None)
    name = "transformer.norm_out.linear"
    up = tensors["final_layer.adaLN_modulation.1.lora_up.weight"]
    torch.testing.assert_close(lora[name].u, torch.cat([up[3:], up[:3]]))
    assert lora.side[f"{name}.lora_bias"].tensor.tolist() == [3, 4, 5, 0, 1, 2]


def test_magnitudes_of_the_rows_are_split_and_of_the_columns_keep_the_layer_fused():
    module = "double_blocks.0.img_attn.qkv"
    rows = pair(module, n=12) | {f"{module}.dora_scale": torch.arange(12.0).reshape(12, 1)}
    lora = assemble(rows, "a file", "bfl").lora({}, None, None)
    assert len(lora) == 3
    part = lora.side["transformer.transformer_blocks.0.attn.to_k.dora_magnitude"].tensor
    assert part.flatten().tolist() == [4, 5, 6, 7]
    columns = pair(module, n=12) | {f"{module}.dora_scale": torch.ones(1, 4)}
    lora = assemble(columns, "a file", "bfl").lora({}, None, None)
    assert list(lora) == ["transformer.double_blocks.0.img_attn.qkv"]
    assert lora.provenance.outcome == "part"


def test_a_whole_fused_update_is_split_and_a_native_one_is_not():
    module = "double_blocks.0.img_attn.qkv"
    lora = assemble({f"{module}.diff": torch.ones(12, 4)}, "a file", "bfl").lora({}, None, None)
    assert len(lora.side) == 3
    whole = {f"{module}.lokr_w1": torch.ones(3, 2), f"{module}.lokr_w2": torch.ones(4, 2)}
    lora = assemble(whole, "a file", "bfl").lora({}, None, None)
    parts = [f"transformer.transformer_blocks.0.attn.to_{x}" for x in "kqv"]
    assert sorted(lora) == parts  # w2 is as high as a part: w1's rows are those of the parts
    assert all(isinstance(lora[name], Kronecker) for name in parts)
    assert lora.provenance.outcome == "exact"
    assert any(note.startswith("kronecker: 1 modules") for note in lora.provenance.notes)


def test_a_whole_update_without_rows_stays_fused():
    module = "double_blocks.0.img_attn.qkv"
    tensors = {f"{module}.lora_down.weight": torch.ones(0, 3)}
    lora = assemble(tensors, "a file", "bfl").lora({}, None, None)
    assert all(side.tensor.numel() == 0 for side in lora.side.values())


def test_swapped_halves_beside_a_tensor_of_another_length():
    module = "final_layer.adaLN_modulation.1"
    tensors = pair(module) | {f"{module}.lora_B.bias": torch.ones(3)}
    lora = assemble(tensors, "a file", "bfl").lora({}, None, None)
    assert lora.side["transformer.norm_out.linear.lora_bias"].tensor.shape == (3,)
