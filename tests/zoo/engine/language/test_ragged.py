import pytest
import torch

from lorascope.zoo.engine.language.ragged import Ragged

REAL = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0]]).bool()


@pytest.fixture(scope="module")
def ragged():
    return Ragged.of(REAL, 6)


def test_tokens_stand_in_their_rows_and_come_back(ragged):
    x = torch.randn(6, 2, 5)
    rows = ragged.pad(x)
    assert rows.shape == (4, 3, 2, 5)
    assert torch.equal(rows[REAL], x)
    assert rows[~REAL].count_nonzero() == 0
    assert torch.equal(ragged.unpad(rows), x)
    assert ragged.places.tolist() == REAL.nonzero().T.tolist()


def test_each_is_the_others_derivative(ragged):
    x, y = torch.randn(6, 2).double(), torch.randn(4, 3, 2).double()
    assert torch.autograd.gradcheck(ragged.pad, x.requires_grad_())
    assert torch.autograd.gradcheck(ragged.unpad, y.requires_grad_())
    inner = (ragged.pad(x) * y).sum()
    assert torch.allclose(inner, (x * ragged.unpad(y)).sum())


def test_what_stands_on_padding_reaches_nothing(ragged):
    y = torch.full((4, 3, 2), float("nan"))
    y[REAL] = 1
    y.requires_grad_()
    ragged.unpad(y).sum().backward()
    assert torch.equal(y.grad[..., 0], REAL.float())


def test_some_tokens_of_a_list(ragged):
    asked = Ragged.of(torch.tensor([[True], [False], [True], [True]]), 3)
    places = torch.tensor([[1], [0], [0], [1]])  # in their rows
    some = asked.within(ragged, ragged.token.gather(1, places))
    assert some.places.tolist() == [[1, 2, 5]]
    assert some.token.tolist() == [-1, 0, 1, -1, -1, 2]
    x = torch.randn(6, 4, requires_grad=True)
    assert torch.equal(some.unpad(x), x[[1, 2, 5]])
    some.unpad(x).sum().backward()
    assert x.grad[:, 0].tolist() == [0, 1, 1, 0, 0, 1]
    assert some.to(torch.device("cpu")).token.tolist() == some.token.tolist()
