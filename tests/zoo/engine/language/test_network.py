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
    places = torch.tensor([[[0, 3], [2, 2]]])
    seen = causal_views(frozen, 5, places)
    assert seen.inner.mask.shape == (1, 1, 5, 5)
    assert seen.last.mask[0, 0].sum(1).tolist() == [1, 4]
    assert seen.last.mask[0, 1].sum(1).tolist() == [3, 3]
    assert torch.equal(seen.last.query_cos[0, 0, 1], seen.inner.key_cos[0, 0, 3])


def test_rows_may_have_their_own_positions_and_masks(base):
    frozen = FrozenBase.of(base, torch.float64)
    positions = torch.tensor([[0, 1, 2], [0, 1, 1]])
    mask = torch.ones(2, 3, 3, dtype=torch.bool).tril()
    mask[1, 2, 1] = False
    seen = views(frozen, positions[None], mask[None], torch.tensor([[[2], [2]]]))
    assert seen.last.mask[0].squeeze(1).tolist() == [[True] * 3, [True, False, True]]
    assert torch.equal(seen.last.query_sin[0, 1, 0], seen.inner.key_sin[0, 0, 1])


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
