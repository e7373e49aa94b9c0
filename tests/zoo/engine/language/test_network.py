import torch

from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.network import (
    PADDING,
    SHARED,
    causal_views,
    noise_by_block,
    pairs_by_block,
    split_name,
    views,
    visible,
)
from lorascope.zoo.engine.language.ragged import Ragged
from lorascope.zoo.engine.layout import Factors


def test_layers_are_sorted_by_block():
    factor = Factors(torch.zeros(1), torch.ones(1))
    name = "model.layers.{}.self_attn.q_proj"
    pairs = pairs_by_block({name.format(2): factor, name.format(0): factor}, 3)
    assert [list(each) for each in pairs] == [["q_proj"], [], ["q_proj"]]
    assert pairs[2]["q_proj"].B is factor[1]
    noise = noise_by_block({name.format(1): factor[0]}, 3)
    assert [len(each) for each in noise] == [0, 1, 0]
    assert split_name("model.layers.11.mlp.up_proj") == (11, "up_proj")


def test_the_last_view_holds_the_chosen_places(base):
    frozen = FrozenBase.of(base, torch.float64)
    places = torch.tensor([[0, 3], [2, 0]])
    rows = Ragged.of(torch.arange(5) < torch.tensor([[5], [3]]), 8)
    asked = Ragged.of(torch.tensor([[True, True], [True, False]]), 3)
    seen = causal_views(frozen, rows, asked, places)
    assert seen.inner.mask.shape == (1, 5, 5)
    assert seen.last.mask[0].sum(1).tolist() == [1, 4]
    assert seen.last.mask[1].sum(1).tolist() == [3, 1]
    assert torch.equal(seen.last.asked.cos[0, 1], seen.inner.cos[0, 3])
    assert seen.last.asked.some.places.tolist() == [[0, 3, 7]]
    assert seen.asked is seen.last.asked.rows


def test_rows_may_have_their_own_positions_and_masks(base):
    frozen = FrozenBase.of(base, torch.float64)
    positions = torch.tensor([[0, 1, 2], [0, 1, 1]])
    mask = torch.ones(2, 3, 3, dtype=torch.bool).tril()
    mask[1, 2, 1] = False
    rows = Ragged.of(torch.ones(2, 3, dtype=torch.bool), 6)
    asked = Ragged.of(torch.ones(2, 1, dtype=torch.bool), 2)
    seen = views(frozen, rows, positions, mask, asked, torch.tensor([[2], [2]]))
    assert seen.last.mask.squeeze(1).tolist() == [[True] * 3, [True, False, True]]
    assert torch.equal(seen.last.asked.sin[1, 0], seen.inner.sin[0, 1])


def test_tokens_see_their_own_segment_and_the_shared_one():
    seen = visible(torch.tensor([SHARED, SHARED, 0, 0, 1, PADDING]))
    assert seen.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]
    assert visible(torch.tensor([[0, 1], [0, 0]])).int().tolist() == [
        [[1, 0], [0, 1]],
        [[1, 0], [1, 1]],
    ]
