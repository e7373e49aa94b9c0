import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.layout import LayerShape
from tests.zoo.conftest import make_base


def test_the_base_changes_its_type_whole():
    base = FrozenBase.of(make_base(), torch.float64)
    half = base.to(torch.bfloat16)
    assert half.dtype == half.embedding.dtype == half.blocks[0].qkv.dtype == torch.bfloat16
    assert base.to(torch.float64) is base


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_that_shares_its_weights_is_held_once(tied):
    model = make_base("llama", torch.float32, tie_word_embeddings=tied)
    exact = FrozenBase.of(model, torch.float32)
    coarse = FrozenBase.of(model, torch.bfloat16)
    opened = exact.opened(torch.bfloat16, 2)
    for base in (exact, coarse, opened, opened.later, exact.to(device=torch.device("meta"))):
        assert (base.head is base.embedding) == tied
    assert torch.equal(exact.head, model.lm_head.weight)


def test_targets_are_suffixes_of_whole_names():
    base = FrozenBase.of(make_base(), torch.float64)
    assert list(base.targeted(("q_proj",))) == [
        f"model.layers.{i}.self_attn.q_proj" for i in range(3)
    ]
    assert base.targeted(("proj",)) == {}
    assert base.targeted(("layers.1.mlp.down_proj",)) == {
        "model.layers.1.mlp.down_proj": LayerShape(24, 32)
    }


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_fused_weights_come_apart(kind):
    model = make_base(kind)
    base, modules = FrozenBase.of(model, torch.float64), dict(model.named_modules())
    assert len(base.linear_shapes) == 21
    for layer, (n, m, _) in base.linear_shapes.items():
        part = base.blocks[int(layer.split(".")[2])].part(layer.rsplit(".", 1)[-1], base.heads)
        assert torch.equal(base.weight_of(layer), modules[layer].weight)
        assert part.weight.shape == (n, m)
        bias = modules[layer].bias
        assert (part.bias is None) if bias is None else torch.equal(part.bias, bias)


def test_other_architectures_are_refused():
    with pytest.raises(DataError, match="expected 'qwen2' or 'llama'"):
        FrozenBase.of(torch.nn.Linear(2, 2), torch.float32)
    for changes in ({"mlp_bias": True}, {"attention_bias": True}):
        with pytest.raises(DataError, match="biases"):
            FrozenBase.of(make_base("llama", **changes), torch.float32)


def test_an_opened_base_trains_with_rounded_products_alone():
    exact = FrozenBase.of(make_base(), torch.float32)
    base = exact.opened(torch.bfloat16, 3)
    assert (base.dtype, base.exact_steps) == (torch.bfloat16, 3)
    assert base.exact is exact
    later = base.later
    assert later is base.later
    assert (later.dtype, later.head.dtype, later.embedding.dtype) == (torch.float32,) * 3
    for block, fine in zip(later.blocks, exact.blocks, strict=True):
        assert torch.equal(block.qkv, fine.qkv.bfloat16())
        assert {block.out.dtype, block.gate_up.dtype, block.down.dtype} == {torch.bfloat16}
        assert block.qkv_bias is fine.qkv_bias
        assert block.mlp_norm is fine.mlp_norm
    assert exact.later is exact
    assert base.to(torch.float64).exact is None
