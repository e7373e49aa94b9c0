"""The pool: a mixture's shares, equal for equal seeds, captions that fit."""

import torch

from lorascope.zoo.bases.faces.pictures import CHANGED, FIRST, draw_pool
from lorascope.zoo.drawings import CLASSES
from lorascope.zoo.drawings.captions import RARE, words


def test_a_pool_follows_from_mixture_count_and_seed():
    pool, again, other = (draw_pool(FIRST, 100, seed) for seed in (0, 0, 1))
    assert torch.equal(pool.images, again.images)
    assert not torch.equal(pool.images, other.images)
    assert (len(pool), len(pool.attributes), len(pool.classes)) == (100, 65, 35)
    assert pool.images.dtype == torch.uint8


def test_the_changed_mixture_is_another():
    first, changed = (draw_pool(mixture, 1500, 0) for mixture in (FIRST, CHANGED))
    gap = changed.attributes.float().mean(0) - first.attributes.float().mean(0)
    assert float(gap.abs().max()) > 0.15
    shares = changed.classes.bincount(minlength=len(CLASSES)) / len(changed.classes)
    assert float(shares[::2].min()) > 1.5 * float(shares[1::2].max())
    assert len(changed.attributes) < len(first.attributes)


def test_pictures_are_scaled_and_captions_tell_what_is_on_them():
    pool = draw_pool(FIRST, 60, 0)
    pictures = pool.pictures(torch.tensor([0, 59]))
    assert pictures.shape == (2, 3, 32, 32)
    assert float(pictures.min()) < 0 < float(pictures.max()) <= 1
    generator = torch.Generator().manual_seed(0)
    names = list(CLASSES)
    for _ in range(20):
        told = pool.captions(torch.arange(39, 60), generator)
        for text, kind in zip(told, pool.classes.tolist(), strict=True):
            last = text.split()[-1]
            assert last == names[kind] or last in RARE
            assert set(text.split()) <= set(words())
