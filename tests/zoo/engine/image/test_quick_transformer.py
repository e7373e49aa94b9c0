"""A transformer with adapters in C against its layers in torch; skipped where no C compiler works."""

import pytest
import torch

from lorascope.zoo.engine.image import network, quick
from lorascope.zoo.engine.image.frozen_unet import FrozenUNet
from lorascope.zoo.engine.image.layers import Context, Pair, Scene
from lorascope.zoo.engine.image.network import loss_of
from lorascope.zoo.engine.image.quick_transformer import OWN, TEXT, adaptable
from tests.zoo.engine.image.conftest import WIDTH, make_unet
from tests.zoo.engine.image.test_quick_blocks import WHOLE, near, randn

pytestmark = pytest.mark.skipif(quick.library() is None, reason="no C compiler")

EVERY = (*(f"attn1.{name}" for name in OWN), *(f"attn2.{name}" for name in (*TEXT, "to_v")))


@pytest.fixture(scope="module")
def unets():
    exact = FrozenUNet.of(make_unet(**WHOLE), torch.float64)
    return exact, exact.to(torch.float32).quickened()


def spatial_of(unet):
    return next(each for each in unet.plan.middle.spatials if each is not None)


def pairs_of(unet, names, slots=3, rank=2):
    """Factors in float64 of ranks 2, 3, ..."""
    block = spatial_of(unet).blocks[0].name
    pairs = {}
    for i, name in enumerate(names):
        n, m, _ = unet.layers[f"{block}.{name}"]
        A = randn(slots, rank + i, m, seed=i) / 4
        B = randn(slots, n, rank + i, seed=i + 20) / 4
        pairs[f"{block}.{name}"] = Pair(A.double(), B.double())
    return pairs


def outcome(unet, numbers, pairs, *, learns=True):
    """A transformer's output, and the gradients of all that goes in. Two texts, two pictures a slot."""
    spatial = spatial_of(unet)
    text = spatial.blocks[0].attentions[1].name
    x, key, value = (each.to(unet.dtype) for each in numbers)
    parts = [value.requires_grad_()]
    if learns:
        parts += [x.requires_grad_(), key.requires_grad_()]
    made = {}
    for name, pair in pairs.items():
        own = [part.to(unet.dtype).requires_grad_() for part in pair[:2]]
        made[name] = Pair(*own)
        parts += own
    which = torch.tensor([1, 0])
    scene = Scene(unet.weights, made, len(key), {text: Context(key, value)}, which, unet.packed)
    y = network.transformer(scene, spatial, x)
    gradient = randn(*y.shape, seed=9).to(unet.dtype)
    return y, *torch.autograd.grad(y, parts, gradient)


def numbers_of(slots=3, side=4, length=5):
    return (
        randn(2 * slots, 32, side, side),
        randn(slots, 2, length, 32, seed=1),
        randn(slots, 2, length, 32, seed=2),
    )


@pytest.mark.parametrize("names", [(), ("attn1.to_q", "attn1.to_v", "attn2.to_q"), EVERY[:-1]])
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize(("side", "length"), [(4, 5), (3, 9)])
def test_a_transformer_and_its_gradients_are_those_of_torch(unets, names, learns, side, length):
    exact, fast = unets
    pairs, numbers = pairs_of(exact, names), numbers_of(side=side, length=length)
    wanted, found = (outcome(unet, numbers, pairs, learns=learns) for unet in (exact, fast))
    assert spatial_of(fast).name in fast.packed.transformers
    assert len(found) == 2 + 2 * learns + 2 * len(names)
    assert all(near(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_an_adapter_that_has_diverged_is_seen_and_touches_no_other(unets, number):
    exact, fast = unets
    pairs = pairs_of(exact, ["attn1.to_v", "attn2.to_q"])
    before = outcome(fast, numbers_of(), pairs)
    next(iter(pairs.values())).A[0, 0, 0] = number
    after = outcome(fast, numbers_of(), pairs)
    for found, same, first in zip(after, before, (2, 1, 2, 1, 1, 1, 1, 1), strict=True):
        assert torch.equal(found[first:], same[first:])  # two pictures a slot
        assert not torch.isfinite(found[:first]).all()


@pytest.mark.parametrize("rank", [31, 40, 64])
def test_ranks_up_to_and_beyond_the_width(unets, rank):
    exact, fast = unets
    pairs = pairs_of(exact, ["attn1.to_q", "attn2.to_out.0"], rank=rank)
    wanted, found = (outcome(unet, numbers_of(), pairs) for unet in (exact, fast))
    assert all(near(a, b) for a, b in zip(found, wanted, strict=True))


def test_what_the_kernel_does_not_take_is_computed_by_torch(unets):
    exact, fast = unets
    spatial = spatial_of(fast)
    weights, block = fast.packed.transformers[spatial.name], spatial.blocks[0].name
    pair = pairs_of(exact, ["attn1.to_q"])[f"{block}.attn1.to_q"]
    assert adaptable(weights, pairs_of(exact, EVERY), spatial)
    assert adaptable(weights, {f"mid_block.other.{block}.ff": pair}, spatial)
    assert not adaptable(weights, {f"{block}.ff.net.0.proj": pair}, spatial)
    assert not adaptable(weights, {f"{spatial.name}.proj_in": pair}, spatial)
    gain = torch.ones(3, 32)
    assert not adaptable(weights, {f"{block}.attn1.to_q": pair._replace(gain=gain)}, spatial)
    pairs = pairs_of(exact, ["attn1.to_q", "ff.net.0.proj"])
    wanted, found = (outcome(unet, numbers_of(), pairs) for unet in (exact, fast))
    assert all(near(a, b) for a, b in zip(found, wanted, strict=True))


def test_rows_that_see_several_texts_have_no_gradient_in_c(unets):
    exact, fast = unets
    found = []
    assert spatial_of(fast).name in fast.packed.transformers
    for unet in (exact, fast):
        spatial = spatial_of(unet)
        text = spatial.blocks[0].attentions[1].name
        x, key, value = (each.to(unet.dtype) for each in numbers_of())
        which = torch.tensor([0, 0, 1, 0])  # two pictures a slot, each seen twice
        contexts = {text: Context(key, value)}
        scene = Scene(unet.weights, {}, 3, contexts, which, unet.packed)
        with torch.no_grad():
            found.append(network.transformer(scene, spatial, x.requires_grad_()))
        scene = Scene(unet.weights, {}, 3, contexts, which, unet.packed)
        y = network.transformer(scene, spatial, x)
        found += [y, *torch.autograd.grad(y.square().sum(), x)]
    assert near(found[3], found[0])
    assert near(found[4], found[0])
    assert near(found[5], found[2])


def test_the_loss_of_a_whole_unet_and_its_gradients(unets):
    exact, fast = unets
    names = [name for name in exact.layers if name.endswith(("to_q", "to_k", "to_v", "to_out.0"))]
    numbers = {}
    for i, name in enumerate(names):
        n, m, _ = exact.layers[name]
        numbers[name] = (randn(2, 3, m, seed=i) / 9, randn(2, n, 3, seed=i + 90) / 9)
    noisy, texts = randn(2, 2, 4, 8, 8, seed=3), randn(2, 1, 5, WIDTH, seed=4)
    found = []
    for unet in (exact, fast):
        pairs = {
            name: Pair(*(x.to(unet.dtype).requires_grad_() for x in each))
            for name, each in numbers.items()
        }
        clock = unet.clock(torch.tensor([3, 9, 27, 4])).to(unet.dtype).view(2, 2, -1)
        given = (
            noisy.to(unet.dtype),
            clock,
            texts.to(unet.dtype),
            torch.zeros_like(noisy, dtype=unet.dtype),
        )
        loss = loss_of(unet.plan, unet.weights, pairs, *given, unet.packed)
        factors = [part for pair in pairs.values() for part in pair[:2]]
        found.append((loss, *torch.autograd.grad(loss.sum(), factors)))
    assert all(near(a, b, 2e-5) for a, b in zip(found[1], found[0], strict=True))
