"""Smoother: every left-out prediction equals the one of a model refitted without it."""

import pytest
import torch

from lorascope.models.smoother import Smoother


@pytest.fixture
def data(generator):
    x = torch.randn(24, 5, generator=generator, dtype=torch.float64) + 2
    noise = torch.randn(24, 2, generator=generator, dtype=torch.float64)
    return x, x @ torch.randn(5, 2, generator=generator, dtype=torch.float64) + noise + 3


def ridge(x, y, strength):
    """Primal ridge with an intercept that is not penalised, by augmented least squares."""
    rows = torch.cat([x, x.new_ones(len(x), 1)], 1)
    penalty = strength * torch.eye(x.shape[1] + 1, dtype=x.dtype)
    penalty[-1, -1] = 0
    return torch.linalg.solve(rows.T @ rows + penalty, rows.T @ y)


def predict(weights, x):
    return x @ weights[:-1] + weights[-1]


@pytest.mark.parametrize("strength", [1e-3, 1.0, 100.0])
def test_solution_equals_primal_ridge(data, strength):
    x, y = data
    dual, intercept = Smoother(x @ x.T).solve(y, strength)
    new = torch.randn(7, 5, dtype=torch.float64)
    expected = predict(ridge(x, y, strength), new)
    torch.testing.assert_close(new @ x.T @ dual + intercept, expected)


@pytest.mark.parametrize("strength", [1e-3, 1.0, 100.0])
def test_leave_one_out_equals_refitting(data, strength):
    x, y = data
    found = Smoother(x @ x.T).leave_out(y, strength)
    rows = torch.arange(len(x))
    expected = torch.stack(
        [predict(ridge(x[rows != i], y[rows != i], strength), x[i]) for i in rows]
    )
    torch.testing.assert_close(found.left_out, expected)
    assert found.error == pytest.approx(float((y - expected).square().mean()))


def test_leave_group_out_equals_refitting(data):
    x, y = data
    groups = torch.tensor([5] * 4 + [9] * 3 + list(range(100, 117)))
    found = Smoother(x @ x.T, groups).leave_out(y, 0.7)
    expected = torch.stack(
        [predict(ridge(x[groups != g], y[groups != g], 0.7), x[i]) for i, g in enumerate(groups)]
    )
    torch.testing.assert_close(found.left_out, expected)


def test_one_group_of_all_predicts_without_any_data(data):
    x, y = data
    found = Smoother(x @ x.T, torch.zeros(len(x), dtype=torch.int64)).leave_out(y, 1.0)
    assert bool(found.left_out.isfinite().all())


def test_the_strength_follows_the_noise(generator):
    x = torch.randn(40, 30, generator=generator, dtype=torch.float64)
    # many columns share a strength: that of one alone is left to chance
    weights = torch.randn(30, 20, generator=generator, dtype=torch.float64)
    noise = torch.randn(40, 20, generator=generator, dtype=torch.float64)
    smoother = Smoother(x @ x.T)
    clean, noisy, nothing = (
        smoother.choose(y) for y in (x @ weights, x @ weights + 4 * noise, noise)
    )
    assert clean.strength < noisy.strength < nothing.strength
    assert nothing.error == pytest.approx(float(noise.var()), rel=0.2)


def test_a_held_out_set_can_choose_instead(data):
    x, y = data
    other = torch.randn(9, 5, dtype=torch.float64)
    smoother = Smoother(x @ x.T)
    choice = smoother.choose(y, (other @ x.T, other.new_zeros(9, 2) + y.mean(0)))
    assert choice.strength > smoother.choose(y).strength  # labels without a slope want the mean
    errors = []
    for factor in (0.1, 1.0, 10.0):
        dual, intercept = smoother.solve(y, choice.strength * factor)
        errors.append(float((other @ x.T @ dual + intercept - y.mean(0)).square().mean()))
    assert choice.error == pytest.approx(errors[1])


def test_a_kernel_of_twins_and_of_nothing_stays_finite():
    y = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    for kernel in (torch.ones(3, 3), torch.zeros(3, 3)):
        smoother = Smoother(kernel)
        choice = smoother.choose(y)
        dual, intercept = smoother.solve(y, choice.strength)
        assert bool(choice.left_out.isfinite().all())
        torch.testing.assert_close(kernel.double() @ dual + intercept, y.mean(0).expand(3, 1))


def test_each_column_has_its_own_strength(data, generator):
    """One column that the kernel explains, one that is noise: together as each alone."""
    x, y = data
    noise = torch.randn(24, generator=generator, dtype=torch.float64)
    noise = noise - predict(ridge(x, noise, 0), x)  # nor does it look explained by chance
    y = torch.stack([y[:, 0], noise], 1)
    smoother = Smoother(x @ x.T)
    strengths, left_out = smoother.choose_each(y)
    dual, intercept = smoother.solve(y, strengths)
    assert strengths[1] > 10 * strengths[0]
    for column in range(2):
        alone = y[:, column : column + 1]
        choice = smoother.choose(alone)
        expected, offset = smoother.solve(alone, choice.strength)
        torch.testing.assert_close(left_out[:, column], choice.left_out[:, 0])
        torch.testing.assert_close(dual[:, column], expected[:, 0])
        torch.testing.assert_close(intercept[column], offset[0])


def test_large_groups_are_left_out_as_exactly_as_small_ones(data):
    """Eighteen of one group, six of another: predictions of each by the ridge of the others."""
    x, y = data
    groups = torch.tensor([0] * 18 + [1] * 6)
    found = Smoother(x @ x.T, groups).leave_out(y, 2.0).left_out
    for group in (0, 1):
        own = groups == group
        # the strength belongs to the kernel centred on all: refitting alone needs the same centre
        centred = x - x.mean(0)
        smooth = centred @ torch.linalg.solve(
            centred.T @ centred + 2.0 * torch.eye(5, dtype=x.dtype), centred.T
        )
        smooth = smooth + 1 / len(x)
        residual = y - smooth @ y
        inverse = torch.linalg.inv(torch.eye(int(own.sum()), dtype=x.dtype) - smooth[own][:, own])
        torch.testing.assert_close(found[own], y[own] - inverse @ residual[own])
