"""The curve after stacking: it bends where labels do, never falls, and is left out where it tells nothing."""

import torch

from lorascope.models.curve import bend, learn_curve, no_curve

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(300, 1, generator=GENERATOR, dtype=torch.float64)
NOISE = 0.1 * torch.randn(300, 1, generator=GENERATOR, dtype=torch.float64)


def test_what_is_bent_is_told_by_the_curve():
    y = X.exp() + NOISE
    told = bend(X, learn_curve(X, y))
    assert float((told - y).square().mean()) < 0.1 * float((X - y).square().mean())


def test_columns_have_curves_of_their_own():
    y = torch.cat([X.exp(), 0.5 * X], 1) + NOISE
    both = learn_curve(X.expand(-1, 2), y)
    alone = [learn_curve(X, y[:, k : k + 1]) for k in range(2)]
    torch.testing.assert_close(both, torch.cat(alone, 1))


def test_it_never_falls_and_is_constant_beyond_what_was_seen():
    y = (2 * X).sin() + NOISE  # rises about 0, falls beyond
    curve = learn_curve(X, y)
    at = torch.linspace(-9, 9, 200, dtype=torch.float64).unsqueeze(1)
    told = bend(at, curve)
    assert bool((told.diff(dim=0) >= -1e-9).all())
    assert float(told.max() - told.min()) > 1
    assert torch.equal(told[-1], told[-2])


def test_predictions_that_are_right_stay_as_they_are():
    torch.testing.assert_close(bend(X, learn_curve(X, X)), X)


def test_what_falls_or_does_not_vary_has_no_curve():
    assert torch.equal(learn_curve(X, -X), no_curve(1))
    same = torch.zeros(300, 1, dtype=torch.float64)
    for few in (same, (X > 0).double()):
        assert torch.equal(learn_curve(few, NOISE), no_curve(1))


def test_few_rows_are_not_believed_without_proof():
    generator = torch.Generator().manual_seed(1)
    kept = 0
    for _ in range(20):
        x, noise = torch.randn(2, 12, 1, generator=generator, dtype=torch.float64)
        kept += torch.equal(learn_curve(x, x + noise), no_curve(1))
    assert kept > 10


def test_as_many_coefficients_as_loras_are_no_curve():
    for count in (1, 3, 4):
        assert torch.equal(learn_curve(X[:count], NOISE[:count]), no_curve(1))
