"""Stacking: who knows more says more, who knows nothing says nothing."""

import pytest
import torch

from lorascope.models.stacking import mix, stack

DRAW = torch.Generator().manual_seed(0)
Y = torch.randn(400, 2, generator=DRAW).double()


def noisy(size: float) -> torch.Tensor:
    return Y + size * torch.randn(Y.shape, generator=DRAW).double()


def test_weights_are_those_of_least_error() -> None:
    left_out = torch.stack([noisy(0.5), noisy(1.0), torch.randn(Y.shape, generator=DRAW).double()])
    weights = stack(left_out, Y, "regression")
    # independent noise of variance s^2 beside a prior of variance 1: w_i = s_i^-2 / (1 + sum s^-2)
    torch.testing.assert_close(
        weights[:2], torch.tensor([4 / 6, 1 / 6]).double(), rtol=0, atol=0.06
    )
    assert float(weights[2]) < 0.05
    mixed = mix(left_out, weights, Y.mean(0))
    errors = [float((x - Y).square().mean()) for x in (mixed, *left_out)]
    assert min(errors) == errors[0]


def test_weights_are_never_negative() -> None:
    assert float(stack(torch.stack([-Y, 0.1 * Y]), Y, "regression").min()) >= 0


@pytest.mark.parametrize("kind", ["multilabel", "multiclass"])
def test_labels_never_lose_by_being_stacked(kind: str) -> None:
    score = Y - Y.mean(0)
    y = (score > 0).double() if kind == "multilabel" else torch.eye(2)[score.argmax(1)].double()
    good, bad = 2 * y - 1 + 0.3 * noisy(1.0), torch.randn(Y.shape, generator=DRAW).double()
    weights = stack(torch.stack([good, bad]), y, kind)  # type: ignore[arg-type]
    assert float(weights[0]) > 0.5
    assert float(weights[1]) < 0.1


def test_the_weights_of_nothing_are_the_mean() -> None:
    mean = torch.tensor([2.0, 3.0])
    mixed = mix(torch.randn(3, 5, 2), torch.zeros(3), mean)
    assert torch.equal(mixed, mean.expand(5, 2))
