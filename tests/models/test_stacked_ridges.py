"""Stacked ridges: duals add up to the stacked prediction, and each column is stacked by itself."""

import torch

from lorascope.models.closed_form import Labels
from lorascope.models.curve import bend, no_curve
from lorascope.models.mixed_kernels import Kernels
from lorascope.models.stacked_ridges import smoothers_of, stack_each, stack_ridges

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(60, 4, generator=GENERATOR).double()
Z = torch.randn(60, 3, generator=GENERATOR).double()
NOISE = 0.3 * torch.randn(60, 1, generator=GENERATOR).double()
KERNELS = Kernels({"x": X, "z": Z}, {}, {})
MIXTURES = {"x": {"x": 1.0}, "z": {"z": 1.0}}
FOUND = smoothers_of(KERNELS, MIXTURES, None)


def said(duals, intercept, curve=None):
    pairs = zip(MIXTURES.values(), duals, strict=True)
    told = intercept + sum(KERNELS.mixed(mixture) @ dual for mixture, dual in pairs)
    return told if curve is None else bend(told, curve)


def test_a_value_is_read_off_both_kernels():
    y = X[:, :1] + Z[:, :1] + NOISE
    found = said(*stack_ridges(list(FOUND.values()), Labels(y, "regression", torch.arange(60))))
    assert float((found - y).square().mean() / y.var()) < 0.2


def test_a_value_that_is_bent_is_read_off_by_a_curve():
    y = (2 * (X[:, :1] + Z[:, :1])).sigmoid()
    *straight, curve = stack_ridges(list(FOUND.values()), Labels(y, "regression", torch.arange(60)))
    far = [(x - y).square().mean() for x in (said(*straight), said(*straight, curve))]
    assert float(far[1]) < 0.8 * float(far[0])


def test_logits_have_no_curve():
    y = (X[:, :1] + NOISE > 0).double()
    curve = stack_ridges(list(FOUND.values()), Labels(y, "multilabel", torch.arange(60)))[2]
    assert torch.equal(curve, no_curve(1))


def test_a_label_is_told_by_its_logit():
    y = (X[:, :1] + NOISE > 0).double()
    found = said(*stack_ridges(list(FOUND.values()), Labels(y, "multilabel", torch.arange(60))))
    assert float(((found > 0) == (y > 0.5)).double().mean()) > 0.8
    assert 0.01 < float((found.sigmoid() - y).abs().mean()) < 0.3


def test_each_column_takes_the_kernel_that_tells_it():
    y = torch.cat([X[:, :1], Z[:, :1]], 1) + NOISE
    y = (y - y.mean(0)) / y.std(0, correction=0)
    duals, intercept, left_out = stack_each(list(FOUND.values()), y)
    assert duals.shape == (2, 60, 2)
    sizes = duals.abs().sum(1)  # (s, k)
    assert sizes[0, 0] > 10 * sizes[1, 0]
    assert sizes[1, 1] > 10 * sizes[0, 1]
    torch.testing.assert_close(left_out.std(0, correction=0), torch.ones(2).double())
    # what is said of a LoRA that is left out and of one that is not are near each other
    assert float((said(duals, intercept) - left_out).square().mean()) < 0.05


def test_what_nothing_is_known_of_stays_small():
    noise = torch.randn(60, 1, generator=GENERATOR).double()
    noise = (noise - noise.mean(0)) / noise.std(0, correction=0)
    duals, intercept, left_out = stack_each(list(FOUND.values()), noise)
    assert float(left_out.std()) <= 1.01
    assert bool(said(duals, intercept).isfinite().all())
