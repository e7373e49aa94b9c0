"""Parts: losses over what is labelled, units, and the gradient that missing labels leave."""

import math

import pytest
import torch

from lorascope.train.parts import Part, loss_of, part_losses, score_of, total_loss, with_units

NAN = float("nan")
PARTS = [
    Part("score", "regression", slice(0, 1)),
    Part("sources", "multilabel", slice(1, 3)),
    Part("kind", "multiclass", slice(3, 6)),
]
Y = torch.tensor(
    [
        [1.0, 1.0, 0.0, 1.0, 0.0, 0.0],
        [NAN, 0.0, 0.0, 0.0, 1.0, 0.0],
        [3.0, NAN, NAN, 0.0, 0.0, 1.0],
        [-1.0, 1.0, 1.0, NAN, NAN, NAN],
    ]
)


@pytest.fixture
def outputs(generator):
    return torch.randn(4, 6, generator=generator, requires_grad=True)


def test_losses_are_over_the_labelled_rows(outputs):
    found = part_losses(PARTS, outputs, Y)
    rows = ([0, 2, 3], [0, 1, 3], [0, 1, 2])
    for part, loss, there in zip(PARTS, found, rows, strict=True):
        x, y = outputs[there][:, part.columns], Y[there][:, part.columns]
        torch.testing.assert_close(loss, loss_of(part.kind, x, y))


def test_a_missing_label_has_no_gradient_and_nothing_is_nan(outputs):
    total_loss(with_units(PARTS, Y), outputs, Y).backward()
    assert outputs.grad is not None
    missing = Y.isnan()
    assert bool((outputs.grad[missing] == 0).all())
    assert bool((outputs.grad[~missing] != 0).all())


def test_a_minibatch_without_a_label_is_survived(outputs):
    rows = torch.tensor([3])
    loss = total_loss(PARTS, outputs[rows], Y[rows])
    assert bool(loss.isfinite())
    loss.backward()
    assert bool((outputs.grad[:, 3:] == 0).all())


def test_the_best_constant_has_loss_one_in_every_part(generator):
    y = torch.zeros(50, 6)
    y[:, :1] = 3 * torch.randn(50, 1, generator=generator)
    y[:, 1:3] = (torch.rand(50, 2, generator=generator) < 0.3).float()
    y[torch.arange(50), 3 + torch.arange(50) % 3] = 1
    y[::7, 0] = NAN
    parts = with_units(PARTS, y)
    assert [part.known for part in parts] == [pytest.approx(42 / 50), 1.0, 1.0]
    rate = y[:, 1:3].mean(0)
    constant = torch.cat([y[:, :1].nanmean(0), rate.logit(), torch.zeros(3)]).expand(50, 6)
    for part, loss in zip(parts, part_losses(parts, constant, y), strict=True):
        assert float(loss) / part.unit == pytest.approx(1, abs=2e-3)
    constant_label = with_units(PARTS[:1], torch.ones(5, 6))
    assert constant_label[0].unit == 1.0


def test_minibatches_add_up_to_the_whole(outputs):
    """The mean over single rows of the minibatch losses is the loss of all rows."""
    parts = with_units(PARTS, Y)
    singles = torch.stack([total_loss(parts, outputs[[i]], Y[[i]]) for i in range(4)])
    torch.testing.assert_close(singles.mean(), total_loss(parts, outputs, Y))


def test_one_part_is_its_plain_loss(outputs):
    y = Y[[0, 2]]
    part = [PARTS[0]]
    expected = loss_of("regression", outputs[[0, 2], :1], y[:, :1])
    assert torch.equal(total_loss(part, outputs[[0, 2]], y), expected)


def test_scores_have_their_names():
    x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [3.0]])
    assert score_of("regression", x, y) == ("r2", 0.5)
    assert math.isnan(score_of("regression", x, torch.ones(2, 1))[1])
    assert score_of("multilabel", x - 1.5, torch.tensor([[0.0], [0.0]])) == ("accuracy", 0.5)
    assert score_of("multiclass", torch.eye(2), torch.eye(2)) == ("accuracy", 1.0)
