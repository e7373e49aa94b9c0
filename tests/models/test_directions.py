"""Rank directions: the triples give the update back, whatever the gauge; learned maps by layer."""

import torch

from lorascope.core import collate
from lorascope.models.directions import Directions, LayerMaps, read_directions
from lorascope.symmetry import act, random_gauges
from tests.conftest import random_lora


def make(generator, count=3):
    return collate([random_lora(generator) for _ in range(count)])


def test_the_triples_give_the_updates_back(generator):
    batch = make(generator)
    found = read_directions(batch)
    assert found.s.shape == (3, 4, 3)
    lora = batch.unbind()[1]
    # the group of b.0.q and b.1.q, and the places of their values in signature order
    for place, name in ((0, "b.0.q"), (1, "b.1.q")):
        x, y = found.x[0][1, place], found.y[0][1, place]
        s = found.s[1, list(lora.layers).index(name)]
        n, m = x.shape[1], y.shape[1]
        update = torch.einsum("kn,k,km->nm", x / n**0.5, s, y / m**0.5)
        torch.testing.assert_close(update, lora[name].dense())


def test_the_gauge_does_not_matter(generator):
    lora = random_lora(generator)
    other = act(random_gauges(lora, generator=generator, condition=5.0), lora)
    first, second = (read_directions(collate([x])) for x in (lora, other))
    for a, b in zip((*first.x, *first.y, first.s), (*second.x, *second.y, second.s), strict=True):
        torch.testing.assert_close(a, b)


def test_packing_is_undone(generator):
    found = read_directions(make(generator))
    again = Directions.unpack(found.pack())
    assert all(map(torch.equal, (*found.x, *found.y, found.s), (*again.x, *again.y, again.s)))


def test_a_batch_of_rank_zero_has_directions_of_nothing(generator):
    batch = make(generator)
    empty = collate([], signature=batch.signature)
    assert read_directions(empty).s.shape == (0, 4, 1)


def test_every_layer_has_its_own_map(generator):
    batch = make(generator)
    maps = LayerMaps(batch.signature, "n", 5).double()
    found = read_directions(batch)
    out = maps(found.x)
    assert out.shape == (3, 4, 3, 5)
    for index, group in enumerate(batch.signature.groups()):
        for place, layer in enumerate(group.indices):
            expected = torch.einsum(
                "brn,nd->brd", found.x[index][:, place], maps.weights[index][place]
            )
            torch.testing.assert_close(out[:, layer], expected)
