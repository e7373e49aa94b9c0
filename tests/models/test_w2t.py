"""W2T: pools, masks, sign augmentation, what it learns, parameters."""

import pytest
import torch

from lorascope.core import collate
from lorascope.models.w2t import W2T, AttentionPool, _zscore
from tests.conftest import random_lora

SMALL = {"width": 8, "depth": 1, "heads": 2}


@pytest.fixture
def batch(generator):
    return collate([random_lora(generator) for _ in range(4)])


def test_the_pool_is_a_softmax_of_what_is_there(generator):
    pool = AttentionPool(4, 2).double()
    x = torch.randn(1, 3, 4, generator=generator, dtype=torch.float64)
    prior = torch.tensor([[0.0, 1.0, 5.0]], dtype=torch.float64)
    there = torch.tensor([[True, True, False]])
    logits = torch.einsum("td,qd->tq", pool.key(x)[0, :2], pool.queries) / 2 + prior[0, :2, None]
    expected = pool.out(torch.einsum("tq,td->qd", logits.softmax(0), x[0, :2]).flatten())
    torch.testing.assert_close(pool(x, there, prior)[0], expected)
    nothing = pool(x, torch.zeros(1, 3, dtype=torch.bool), prior)
    torch.testing.assert_close(nothing[0], pool.out.bias)


def test_values_are_standardised_over_real_directions():
    x = torch.tensor([[[1.0, 3.0, 99.0]]])
    z = _zscore(x, torch.tensor([[[True, True, False]]]))
    torch.testing.assert_close(z, torch.tensor([[[-1.0, 1.0, 0.0]]]))


def test_signs_are_redrawn_in_training_alone(batch):
    model = W2T(batch.signature, 2, rank=3, dropout=0.0, **SMALL).double()
    features = model.features(batch)
    model.eval()
    assert torch.equal(model.score(features), model.score(features))
    model.train()
    assert not torch.allclose(model.score(features), model.score(features))
    still = W2T(batch.signature, 2, rank=3, dropout=0.0, flips=False, **SMALL).double()
    assert torch.equal(still.score(features), still.score(features))


def test_the_size_is_read_only_where_asked(batch):
    # tiny updates: log1p is then linear, and the z-score takes the size away; powers of two are exact,
    # so that rounding turns no sign whose vote is a tie
    small, smaller = (
        batch.with_groups([type(g)(g.u * f, g.v) for g in batch.groups]) for f in (2**-20, 2**-24)
    )

    def change(sizes: bool) -> float:
        model = W2T(batch.signature, 2, rank=3, sizes=sizes, **SMALL).double().eval()
        model.prepare(small)  # so that sizes stand in the range where the network is steep
        return float((model(small) - model(smaller)).detach().abs().max())

    assert change(sizes=False) < 1e-5
    assert change(sizes=True) > 1e-2


def test_parameter_count(batch):
    d, k = 8, 2
    model = W2T(batch.signature, k, rank=3, **SMALL)
    tokens = d * (8 * 2 + 5 + 4 + 6 * 3 + 18) + 4 * d + 2 * d * d + d
    film = 2 * d + 2 * d * d + 2 * d
    block = 4 * d * d + 4 * d + 2 * 4 * d * d + 4 * d + d + 4 * d
    pools = (4 * d + d * d + d + 4 * d * d + d) + (d + d * d + d + d * d + d)
    places = 4 * d + 3 * d  # layers; q, v and conv
    head = (d + 3) * 2 * d + (2 * d + 1) * k
    assert model.parameter_count == tokens + film + 2 * block + pools + places + head
