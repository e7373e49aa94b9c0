"""Layer hints: one map equals a ridge of each layer alone, and nothing of a LoRA's own label is in its left-out
answer."""

import torch

from lorascope.models.layer_hints import MIXTURE, answer_layers, blocks_of, learn_layers
from lorascope.models.mixed_kernels import Kernels
from lorascope.models.smoother import Smoother

GENERATOR = torch.Generator().manual_seed(0)
PARTS = {
    name: torch.randn(60, 3 * width, generator=GENERATOR, dtype=torch.float64)
    for name, width in (("core", 6), ("left", 4), ("right", 4))
}
BLOCKS = blocks_of({"core": [6] * 3, "left": [4] * 3, "right": [4] * 3})
WANTED = torch.randn(18, 2, generator=GENERATOR, dtype=torch.float64)


def test_each_block_answers_as_a_ridge_on_its_own_numbers():
    known = PARTS["core"] @ WANTED
    learned = learn_layers(PARTS, BLOCKS, known, None)
    told = answer_layers(PARTS, BLOCKS, learned.maps, learned.intercepts)
    for index, block in enumerate(BLOCKS):
        alone = Kernels({name: PARTS[name][:, at] for name, at in block.items()}, {}, {})
        smoother = Smoother(alone.mixed(MIXTURE))
        strengths, left_out = smoother.choose_each(known)
        dual, intercept = smoother.solve(known, strengths)
        columns = slice(2 * index, 2 * index + 2)
        torch.testing.assert_close(told[:, columns], alone.mixed(MIXTURE) @ dual + intercept)
        torch.testing.assert_close(learned.left_out[:, columns], left_out)


def test_a_layer_is_told_apart_from_one_that_knows_nothing():
    known = PARTS["core"][:, :6] @ WANTED[:6]
    left_out = learn_layers(PARTS, BLOCKS, known, None).left_out
    error = (left_out.view(60, 3, 2) - known.unsqueeze(1)).square().mean((0, 2))
    variance = known.var(0).mean()
    assert float(error[0]) < 0.1 * variance
    assert float(error[1:].min()) > 0.8 * variance


def test_twins_are_left_out_together():
    rows = torch.arange(30).repeat(2)
    parts = {name: part[rows] for name, part in PARTS.items()}
    noise = torch.randn(30, 1, generator=GENERATOR, dtype=torch.float64)[rows]
    told = learn_layers(parts, BLOCKS, noise - noise.mean(0), rows).left_out
    assert float((told - noise).square().mean() / noise.var()) > 0.8


def test_many_layers_share_blocks_that_cover_all_numbers_once():
    widths = {"core": [4] * 30 + [9] * 11, "left": [3] * 41, "right": [2] * 41}
    blocks = blocks_of(widths)
    assert len(blocks) == 16
    for name, each in widths.items():
        assert [block[name].start for block in blocks] == [0, *(b[name].stop for b in blocks[:-1])]
        assert blocks[-1][name].stop == sum(each)
        assert all(block[name].stop > block[name].start for block in blocks)
