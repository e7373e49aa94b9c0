"""One layer with the adapters of each slot is that layer with each adapter's weight added."""

import pytest
import torch
import torch.nn.functional as F

from lorascope.zoo.engine.image.layers import Pair, Scene, conv, images_of, mix, tokens_of, widen
from lorascope.zoo.engine.image.plan import Conv


def randn(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("gain", [None, 0.1 * randn(2, 6, seed=3)], ids=["lora", "dora"])
def test_a_linear_layer_with_an_adapter_for_each_slot(gain):
    W, c, x = randn(6, 5), randn(6, seed=1), randn(2, 3, 5, seed=2)
    A, B = randn(2, 4, 5, seed=4), randn(2, 6, 4, seed=5)
    scene = Scene({"a.weight": W, "a.bias": c}, {"a": Pair(A, B, gain)}, 2)
    for slot, found in enumerate(mix(scene, "a", x)):
        whole = W + B[slot] @ A[slot]
        whole = whole if gain is None else (1 + gain[slot, :, None]) * whole
        assert torch.allclose(found, F.linear(x[slot], whole, c))
    frozen = Scene({"a.weight": W, "a.bias": c}, {}, 2)
    assert torch.allclose(mix(frozen, "a", x), F.linear(x, W, c))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_with_an_adapter_for_each_slot(stride):
    W, c, x = randn(6, 5, 3, 3), randn(6, seed=1), randn(4, 5, 8, 8, seed=2)
    A, B = randn(2, 4, 45, seed=4), randn(2, 6, 4, seed=5)
    scene = Scene({"a.weight": W, "a.bias": c}, {"a": Pair(A, B)}, 2)
    found = conv(scene, Conv("a", stride, 1), x)
    for slot in range(2):
        whole = W + (B[slot] @ A[slot]).view_as(W)
        rows = slice(2 * slot, 2 * slot + 2)
        assert torch.allclose(found[rows], F.conv2d(x[rows], whole, c, stride, 1))


def test_places_are_tokens_and_images_are_repeated_within_their_slot():
    scene, images = Scene({}, {}, 2), randn(4, 3, 2, 5)
    assert torch.equal(images_of(tokens_of(scene, images), images.shape[-2:]), images)
    twice = widen(scene, images, 8)
    assert torch.equal(twice[[0, 1, 2, 3]], images[[0, 1, 0, 1]])
    assert torch.equal(twice[[4, 5, 6, 7]], images[[2, 3, 2, 3]])
