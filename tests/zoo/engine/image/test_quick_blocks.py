"""Whole blocks in C against the same blocks layer by layer; skipped where no C compiler works."""

from dataclasses import replace

import pytest
import torch

from lorascope.zoo.engine.image import quick, quick_blocks
from lorascope.zoo.engine.image.frozen_unet import FrozenUNet
from lorascope.zoo.engine.image.layers import Pair
from lorascope.zoo.engine.image.network import contexts_of, denoise, loss_of
from lorascope.zoo.engine.image.plan import Conv, Norm, Resnet
from tests.zoo.engine.image.conftest import WIDTH, make_unet, other_unet

pytestmark = pytest.mark.skipif(quick.library() is None, reason="no C compiler")


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def near(a, b, most=1e-5):
    a, b = (each.detach().double() for each in (a, b))
    return float((a - b).norm() / b.norm()) < most


def resnet_of(a, d, shortcut):
    """A resnet with weights of its own, and its float64 layers as one function."""
    convs = Conv("conv1", 1, 1), Conv("conv2", 1, 1)
    norms = Norm("norm1", 4, 1e-5), Norm("norm2", 2, 1e-3)
    part = Resnet("", norms, convs, Conv("short", 1, 0) if shortcut else None, 1.0)
    shapes = {
        "norm1.weight": (a,),
        "norm1.bias": (a,),
        "conv1.weight": (d, a, 3, 3),
        "conv1.bias": (d,),
        "norm2.weight": (d,),
        "norm2.bias": (d,),
        "conv2.weight": (d, d, 3, 3),
        "conv2.bias": (d,),
    }
    if shortcut:
        shapes |= {"short.weight": (d, a, 1, 1), "short.bias": (d,)}
    weights = {name: randn(*shape, seed=i) / 3 for i, (name, shape) in enumerate(shapes.items())}
    exact = {name: each.double() for name, each in weights.items()}

    def plain(x, late):
        F = torch.nn.functional
        h = F.silu(F.group_norm(x, 4, exact["norm1.weight"], exact["norm1.bias"], 1e-5))
        h = F.conv2d(h, exact["conv1.weight"], exact["conv1.bias"], 1, 1) + late[..., None, None]
        h = F.silu(F.group_norm(h, 2, exact["norm2.weight"], exact["norm2.bias"], 1e-3))
        h = F.conv2d(h, exact["conv2.weight"], exact["conv2.bias"], 1, 1)
        own = F.conv2d(x, exact["short.weight"], exact["short.bias"]) if shortcut else x
        return own + h

    return part, weights, plain


def packed_of(part, weights):
    return quick_blocks.pack_resnet(part, weights, quick_blocks.frozen_of(weights, {}))


@pytest.mark.parametrize(
    ("a", "b", "d", "side"),
    [
        (8, 0, 8, (4, 4)),
        (24, 0, 24, (5, 3)),
        (16, 16, 64, (2, 2)),
        (64, 0, 32, (3, 7)),
        (40, 8, 120, (1, 1)),
        (16, 8, 24, (4, 4)),  # from here on tile by tile, also those of 5 x 7
        (32, 0, 32, (5, 7)),
        (64, 32, 32, (8, 8)),
        (24, 0, 16, (16, 16)),
        (16, 0, 16, (32, 32)),
        (8, 0, 40, (9, 3)),
    ],
)
def test_a_resnet_and_its_gradient(a, b, d, side):
    part, weights, plain = resnet_of(a + b, d, a + b != d)
    packed = packed_of(part, weights)
    x, skip, late = randn(4, a, *side, seed=20), randn(4, b, *side, seed=21), randn(2, d, seed=22)
    given = [each.clone().requires_grad_() for each in ((x, skip) if b else (x,))]
    y = quick_blocks.resnet(given[0], given[1] if b else None, late, packed, slots=2)
    exact = [each.double().requires_grad_() for each in ((x, skip) if b else (x,))]
    wanted = plain(torch.cat(exact, 1), late.double().repeat_interleave(2, 0))
    assert near(y, wanted)
    g = randn(*y.shape, seed=23)
    found = torch.autograd.grad(y, given, g)
    for mine, theirs in zip(found, torch.autograd.grad(wanted, exact, g.double()), strict=True):
        assert near(mine, theirs)


def test_a_skip_that_is_seen_again():
    part, weights, plain = resnet_of(16, 8, shortcut=True)
    packed = packed_of(part, weights)
    x, skip, late = randn(8, 8, 2, 2), randn(4, 8, 2, 2, seed=1), randn(1, 8, seed=2)
    y = quick_blocks.resnet(x, skip, late, packed, slots=2)
    again = skip.view(2, 2, 8, 2, 2).repeat(1, 2, 1, 1, 1).flatten(0, 1)
    assert near(y, plain(torch.cat((x, again), 1).double(), late.double()))


def test_a_resnet_without_a_time_keeps_what_is_no_number_to_its_picture():
    part, weights, plain = resnet_of(8, 8, shortcut=False)
    x = 30 * randn(3, 8, 4, 4)
    x[1, 3, 2, 2] = float("nan")
    y = quick_blocks.resnet(x, None, None, packed_of(part, weights))
    assert y[1].isnan().all()
    wanted = plain(x.double(), torch.zeros(1, 8).double())
    assert near(y[::2], wanted[::2])


def test_other_shapes_are_left_to_torch():
    part, weights, _ = resnet_of(8, 8, shortcut=False)
    assert packed_of(replace(part, scale=2.0), weights) is None
    wide = replace(part, convs=(Conv("conv1", 2, 1), part.convs[1]))
    assert packed_of(wide, weights) is None
    odd = {**weights, "conv1.weight": randn(7, 8, 3, 3)}
    assert packed_of(part, odd) is None


def test_convolutions_of_the_same_tensors_are_made_once():
    unet = FrozenUNet.of(make_unet(**WHOLE), torch.float32).quickened()
    name = "mid_block.resnets.0.conv1"
    other = {**unet.weights, f"{name}.weight": unet.weights[f"{name}.weight"] + 1}
    again = quick_blocks.pack(unet.plan, other, unet.packed)
    same = {each for each in again.convs if again.convs[each] is unet.packed.convs[each]}
    assert set(again.convs) - same == {name}
    first, second = again.resnets["mid_block.resnets.0"].convs
    assert first.weight is other[f"{name}.weight"]
    assert second is unet.packed.convs["mid_block.resnets.0.conv2"]


def test_half_precision_has_norms_alone():
    unet = FrozenUNet.of(make_unet(), torch.bfloat16).quickened()
    assert unet.packed.norms
    assert not unet.packed.resnets


WHOLE = {"block_out_channels": (16, 32), "attention_head_dim": 2, "norm_num_groups": 4}


@pytest.mark.parametrize("model", [lambda: make_unet(**WHOLE), other_unet])
def test_a_whole_guided_unet_equals_the_one_of_torch(model):
    exact = FrozenUNet.of(model(), torch.float64)
    fast = FrozenUNet.of(model(), torch.float32).quickened()
    assert fast.packed.resnets
    noise, texts = randn(1, 3, 4, 8, 8), randn(1, 3, 5, WIDTH, seed=1)
    which = torch.tensor([0, 0, 0, 1, 2, 2])
    found = []
    for unet in (exact, fast):
        x, seen = noise.to(unet.dtype), texts.to(unet.dtype)
        with torch.no_grad():
            contexts = contexts_of(unet.plan, unet.weights, {}, seen)
            got = denoise(
                unet.plan, unet.weights, {}, x, unet.lates(7), contexts, which, unet.packed
            )
        found.append(got)
    assert near(found[1], found[0])


def test_transformers_of_one_block_are_packed():
    packed = FrozenUNet.of(make_unet(**WHOLE), torch.float32).quickened().packed
    assert len(packed.transformers) == 4
    narrow = FrozenUNet.of(other_unet(), torch.float32).quickened().packed.transformers
    assert {
        name.split(".attentions")[0] for name in narrow
    } == {  # the first has heads of 4 channels
        "down_blocks.1",
        "mid_block",
        "up_blocks.1",
    }


@pytest.mark.parametrize("adapted", ["conv1", "time_emb_proj"])
def test_gradients_of_adapters_inside_a_resnet(adapted):
    unet = FrozenUNet.of(make_unet(**WHOLE), torch.float64)
    fast = unet.to(torch.float32).quickened()
    name = f"up_blocks.0.resnets.0.{adapted}"
    n, m, _ = unet.layers[name]
    numbers = [randn(2, 3, m, seed=1) / 9, randn(2, n, 3, seed=2) / 9]
    noisy, texts = randn(2, 2, 4, 8, 8, seed=3), randn(2, 1, 5, WIDTH, seed=4)
    found = []
    for each in (unet, fast):
        factors = [x.to(each.dtype).requires_grad_() for x in numbers]
        clock = each.clock(torch.tensor([3, 9, 27, 4])).to(each.dtype).view(2, 2, -1)
        loss = loss_of(
            each.plan,
            each.weights,
            {name: Pair(*factors)},
            noisy.to(each.dtype),
            clock,
            texts.to(each.dtype),
            torch.zeros_like(noisy, dtype=each.dtype),
            each.packed,
        )
        found.append(torch.autograd.grad(loss.sum(), factors))
    assert all(near(a, b) for a, b in zip(found[1], found[0], strict=True))
