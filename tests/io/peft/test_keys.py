"""Keys of PEFT files: what is a factor, what lies beside, and what every name is without PEFT's wrappers."""

import pytest

from lorascope.errors import FormatError
from lorascope.io.peft.keys import (
    FactorKey,
    SideKey,
    one_adapter,
    parse_key,
    parse_side,
    strip_wrappers,
)

M = "model.layers.0.self_attn.q_proj"
P = "base_model.model."


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (f"{P}{M}.lora_A.weight", FactorKey(M, "lora_A", None)),
        (f"{M}.lora_B.weight", FactorKey(M, "lora_B", None)),
        (f"{M}.lora_A", FactorKey(M, "lora_A", None)),
        (f"{P}{M}.lora_A.default.weight", FactorKey(M, "lora_A", "default")),
        (f"{P}{M}.lora_B.bias", FactorKey(M, "lora_bias", None)),
        (f"{P}{M}.lora_B.default.bias", FactorKey(M, "lora_bias", "default")),
        (f"{P}{M}.lora_E.default", FactorKey(M, "lora_E", "default")),
        (f"{P}{M}.lora_diag", FactorKey(M, "lora_diag", None)),
        (f"{P}{M}.lora_magnitude_vector", FactorKey(M, "lora_magnitude_vector", None)),
        (
            f"{P}{M}.lora_magnitude_vector.default.weight",
            FactorKey(M, "lora_magnitude_vector", "default"),
        ),
        (f"{P}emb.lora_embedding_A", FactorKey("emb", "lora_embedding_A", None)),
        (f"{P}m.base_layer.lora_A.weight", FactorKey("m.base_layer", "lora_A", None)),
        (f"{P}{P}{M}.lora_A.weight", FactorKey(P + M, "lora_A", None)),
        ("lora_A.weight", FactorKey("", "lora_A", None)),
        # a module whose own name is a slot: the last one counts
        ("net.lora_A.proj.lora_B.weight", FactorKey("net.lora_A.proj", "lora_B", None)),
        (f"{M}.lora_A.bias", None),
        (f"{M}.lora_A.one.two.weight", None),
        (f"{M}.weight", None),
        (f"{M}.lora_down.weight", None),
    ],
)
def test_factor_keys(key, expected):
    assert parse_key(key) == expected


@pytest.mark.parametrize(
    ("key", "others", "expected"),
    [
        (f"{P}head.weight", (), SideKey("full", "head.weight")),
        (f"{P}head.bias", ("head.weight",), SideKey("full", "head.bias")),
        (f"{P}head.bias", (), SideKey("bias", "head.bias")),
        (f"{P}c.base_layer.bias", (), SideKey("bias", "c.bias")),
        (f"{P}c.base_layer.bias", ("c.base_layer.weight",), SideKey("base", "c.bias")),
        (f"{P}c.base_layer.weight", (), SideKey("base", "c.weight")),
        (f"{P}emb.base_layer.weight", (), SideKey("embedding", "emb.weight")),
        (f"{P}head.modules_to_save.default.weight", (), SideKey("full", "head.weight", "default")),
        (f"{P}head.modules_to_save.default", (), SideKey("full", "head", "default")),
        (f"{P}head.original_module.weight", (), SideKey("native", "head.original_module.weight")),
        (f"{P}{M}.lora_velora_embed", (), SideKey("native", f"{M}.lora_velora_embed")),
        (
            f"{P}emb.token_adapter.trainable_tokens_delta",
            (),
            SideKey("token_delta", "emb.trainable_tokens_delta"),
        ),
        (
            f"{P}emb.token_adapter.trainable_tokens_delta.default",
            (),
            SideKey("token_delta", "emb.trainable_tokens_delta", "default"),
        ),
    ],
)
def test_side_keys(key, others, expected):
    keys = {key, *(P + other for other in others)}
    assert parse_side(key, keys, {"emb": None}) == expected


def test_wrappers_are_taken_off():
    assert strip_wrappers("m.attn.base_layer.out_proj") == "m.attn.out_proj"
    assert strip_wrappers("m.experts.base_layer.base_layer") == "m.experts"
    assert strip_wrappers("m.base_layer_norm") == "m.base_layer_norm"


def test_one_adapter_at_a_time():
    assert one_adapter([None, "default", "default"], "file") == "default"
    assert one_adapter([None], "file") is None
    with pytest.raises(FormatError, match=r"holds the adapters \['one', 'two'\], expected one"):
        one_adapter(["two", "one", None], "file")
