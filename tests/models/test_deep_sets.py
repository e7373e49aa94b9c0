"""DeepSets: even in every sign, indifferent to the order of directions, continuous where one vanishes."""

import pytest
import torch

from lorascope.core import collate
from lorascope.models.deep_sets import DeepSets
from lorascope.models.directions import Directions
from tests.conftest import random_lora

SMALL = {"hidden": 8, "width": 4, "head": 8}


@pytest.fixture
def batch(generator):
    return collate([random_lora(generator) for _ in range(4)])


@pytest.fixture
def model(batch):
    model = DeepSets(batch.signature, 2, rank=3, **SMALL).double().eval()
    model.prepare(batch)
    return model


def test_the_sign_of_a_pair_does_not_matter(batch, model, generator):
    norms, *rest = model.features(batch)
    triples = Directions.unpack(tuple(rest))

    def signed(side):
        return tuple(part * sign for part, sign in zip(side, signs, strict=True))

    signs = [
        2.0 * torch.randint(0, 2, x.shape[:3], generator=generator).unsqueeze(3) - 1
        for x in triples.x
    ]
    turned = Directions(signed(triples.x), signed(triples.y), triples.s)
    expected = model.score((norms, *triples.pack()))
    torch.testing.assert_close(model.score((norms, *turned.pack())), expected)
    one_side = Directions(signed(triples.x), triples.y, triples.s)
    assert not torch.allclose(model.score((norms, *one_side.pack())), expected)


def test_the_order_of_directions_does_not_matter(batch, model):
    norms, *rest = model.features(batch)
    triples = Directions.unpack(tuple(rest))
    turned = Directions(
        tuple(x.flip(2) for x in triples.x),
        tuple(y.flip(2) for y in triples.y),
        triples.s.flip(2),
    )
    torch.testing.assert_close(
        model.score((norms, *turned.pack())), model.score((norms, *triples.pack()))
    )


def test_a_vanishing_direction_says_nothing(batch, model):
    lora = batch.unbind()[0]
    pair = lora["b.0.q"].truncate(2).pair

    def with_third(size):
        third = torch.zeros(8, 3, dtype=torch.float64), torch.zeros(6, 3, dtype=torch.float64)
        third[0][:, :2], third[1][:, :2] = pair.u, pair.v
        third[0][0, 2], third[1][0, 2] = size, 1.0
        return type(pair)(*third)

    def answer(changed):
        layers = {**lora.layers, "b.0.q": changed}
        return model(collate([type(lora)(layers)], signature=batch.signature))

    gap = (answer(with_third(1e-7)) - answer(pair.pad(3))).detach().abs().max()
    assert float(gap) < 1e-4


def test_parameter_count(batch, model):
    h, d, k = 8, 4, 2
    first = h * (8 * 2 + 5 + 4 + 6 * 3 + 18) + 4 * h + 2 * h
    rest = h * h + h + h * d + d
    head = (4 * d + 3) * 8 + 9 * k
    assert model.parameter_count == first + rest + head
