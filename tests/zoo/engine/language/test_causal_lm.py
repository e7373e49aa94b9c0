import pytest
import torch

from lorascope.zoo.engine.language.causal_lm import rms_norm
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.network import EAGER, answer_losses, causal_views
from lorascope.zoo.engine.language.ragged import Ragged
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
    tokens = torch.randint(40, (6, 7), generator=torch.Generator().manual_seed(0))
    logs = model(input_ids=tokens).logits.log_softmax(-1)
    base = FrozenBase.of(model, torch.float64)
    places, lengths = torch.tensor([1, 6, 4]), torch.tensor([7, 5, 2, 7, 6, 0])
    real, held = (torch.arange(7) < lengths[:, None]), places < lengths[:, None]
    rows, asked = (Ragged.of(each, int(each.sum())) for each in (real, held))
    labels = torch.arange(2).expand(6, 3, 2)
    seen = causal_views(base, rows, asked, places.expand(6, 3))
    losses = answer_losses(base, EAGER, tokens, labels, seen, [{}] * len(base.blocks))
    expected = torch.where(held[..., None], -logs[:, places][..., :2], 0)
    assert torch.allclose(losses, expected, rtol=1e-12, atol=1e-12)


def test_norms_are_at_least_float32():
    x = torch.full((4,), 3e19, dtype=torch.bfloat16)
    assert torch.isfinite(rms_norm(x.float() * 0.1, torch.ones(4), 1e-6)).all()
    assert rms_norm(x.double(), torch.ones(4).double(), 1e-6).dtype == torch.float64
    assert rms_norm(x, torch.ones(4).bfloat16(), 1e-6).dtype == torch.bfloat16
