import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from tests.zoo.conftest import make_base


def test_the_base_changes_its_type_whole():
    base = FrozenBase.of(make_base(), torch.float64)
    half = base.to(torch.bfloat16)
    assert half.dtype == half.embedding.dtype == half.blocks[0].qkv.dtype == torch.bfloat16
    assert base.to(torch.float64) is base


def test_targets_are_suffixes_of_whole_names():
    base = FrozenBase.of(make_base(), torch.float64)
    assert list(base.targeted(("q_proj",))) == [
        f"model.layers.{i}.self_attn.q_proj" for i in range(3)
    ]
    assert base.targeted(("proj",)) == {}
    assert base.targeted(("layers.1.mlp.down_proj",)) == {"model.layers.1.mlp.down_proj": (24, 32)}


def test_other_architectures_are_refused():
    with pytest.raises(DataError, match="expected 'qwen2' or 'llama'"):
        FrozenBase.of(torch.nn.Linear(2, 2), torch.float32)
    for changes in ({"mlp_bias": True}, {"attention_bias": True}):
        with pytest.raises(DataError, match="biases"):
            FrozenBase.of(make_base("llama", **changes), torch.float32)
