"""Keys and their slots."""

import pytest
import torch

from lorascope.errors import FormatError
from lorascope.io.dialects.key import group_keys, split_key


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("lora_unet_a_b.lora_down.weight", ("lora_unet_a_b", "down")),
        ("lora_unet_a_b.alpha", ("lora_unet_a_b", "alpha")),
        ("a.b.lora_A.weight", ("a.b", "down")),
        ("a.b.lora_B", ("a.b", "up")),
        ("a.b.lora_B.default.weight", ("a.b", "up")),
        ("a.b.lora.up.weight", ("a.b", "up")),
        ("a.q_proj.lora_linear_layer.down.weight", ("a.q_proj", "down")),
        ("a.attn1.processor.to_q_lora.down.weight", ("a.attn1.to_q", "down")),
        ("a.attn1.processor.to_out_lora.up.weight", ("a.attn1.to_out.0", "up")),
        (
            "double_blocks.0.processor.qkv_lora1.up.weight",
            ("double_blocks.0.processor.qkv_lora1", "up"),
        ),
        ("a.lokr_w1", ("a", "lokr_w1")),
        ("a.b1.weight", ("a", "b1")),
        ("a.down.weight", None),
        ("a.weight", None),
        ("alpha", None),
    ],
)
def test_endings(key, found):
    assert split_key(key) == found


def test_two_keys_for_one_slot():
    with pytest.raises(FormatError, match="both name down of 'a'"):
        group_keys(
            {"a.lora_A.weight": torch.ones(1), "a.lora_down.weight": torch.ones(1)}, "a file"
        )


def test_a_weight_means_something_only_beside_on_input():
    keyed = group_keys(
        {"a.weight": torch.ones(1), "a.on_input": torch.ones(1), "b.weight": torch.ones(1)}, "x"
    )
    assert set(keyed.modules["a"]) == {"weight", "on_input"}
    assert set(keyed.loose) == {"b.weight"}
