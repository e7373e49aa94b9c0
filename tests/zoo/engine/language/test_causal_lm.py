import pytest
import torch

from lorascope.zoo.engine.language.causal_lm import rms_norm
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.network import EAGER, answer_losses, causal_views
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


def test_norms_are_at_least_float32():
    x = torch.full((4,), 3e19, dtype=torch.bfloat16)
    assert torch.isfinite(rms_norm(x.float() * 0.1, torch.ones(4), 1e-6)).all()
    assert rms_norm(x.double(), torch.ones(4).double(), 1e-6).dtype == torch.float64
    assert rms_norm(x, torch.ones(4).bfloat16(), 1e-6).dtype == torch.bfloat16
