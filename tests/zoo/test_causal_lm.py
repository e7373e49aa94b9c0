import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.causal_lm import FrozenBase, rms_norm
from lorascope.zoo.network import EAGER, answer_losses, causal_views
from tests.zoo.conftest import make_base

CASES = [
    ("qwen2", {}),
    ("llama", {}),
    ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}),
    ("qwen2", {"tie_word_embeddings": True}),
    ("qwen2", {"num_key_value_heads": 4}),
    ("llama", {"head_dim": 10}),
]


@torch.no_grad()
@pytest.mark.parametrize(("kind", "changes"), CASES)
def test_the_forward_is_that_of_transformers(kind, changes):
    model = make_base(kind, **changes)
    tokens = torch.randint(40, (2, 3, 7), generator=torch.Generator().manual_seed(0))
    logs = model(input_ids=tokens.flatten(0, 1)).logits.log_softmax(-1).view(2, 3, 7, 40)
    base = FrozenBase.of(model, torch.float64)
    places = torch.tensor([1, 6, 4]).expand(2, 3, 3)
    labels = torch.arange(2).expand(2, 3, 3, 2)
    losses = answer_losses(
        base, EAGER, tokens, labels, causal_views(base, 7, places), [{}] * len(base.blocks)
    )
    expected = -logs[:, :, [1, 6, 4]][..., :2]
    assert torch.allclose(losses, expected, rtol=1e-12, atol=1e-12)


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


def test_norms_are_at_least_float32():
    x = torch.full((4,), 3e19, dtype=torch.bfloat16)
    assert torch.isfinite(rms_norm(x.float() * 0.1, torch.ones(4), 1e-6)).all()
    assert rms_norm(x.double(), torch.ones(4).double(), 1e-6).dtype == torch.float64
    assert rms_norm(x, torch.ones(4).bfloat16(), 1e-6).dtype == torch.bfloat16


def test_other_architectures_are_refused():
    with pytest.raises(DataError, match="expected 'qwen2' or 'llama'"):
        FrozenBase.of(torch.nn.Linear(2, 2), torch.float32)
    for changes in ({"mlp_bias": True}, {"attention_bias": True}):
        with pytest.raises(DataError, match="biases"):
            FrozenBase.of(make_base("llama", **changes), torch.float32)
