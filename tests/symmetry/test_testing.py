"""The checkers are tested on functions that must fail, and on what a failure says."""

import pytest
import torch

from lorascope.core import LowRank, Symmetry
from lorascope.errors import DataError
from lorascope.symmetry import (
    assert_equivariant,
    assert_invariant,
    equivariance_error,
    invariance_error,
)

INVARIANT = {
    "norm": lambda x: x.norm(),
    "spectrum": lambda x: x.singular_values(),
    "update": lambda x: x.dense(),
    "constant": lambda x: torch.ones(3),
    "number": lambda x: 2.0,
    "nested": lambda x: {"a": [x.norm()], "b": (x.dense(), x.norm())},
    "rank": lambda x: x.rank,
}
ORTHOGONAL_ONLY = {
    "size of u": lambda x: x.u.norm(),
    "Gram of the rows of u": lambda x: x.u @ x.u.T,
    "balance": lambda x: x.u.norm() / x.v.norm(),
}
NEITHER = {
    "u": lambda x: x.u,
    "pair": lambda x: x,
    "sum of v": lambda x: x.v.sum(),
    "largest entry": lambda x: x.u.max(),
    "tiny leak": lambda x: x.norm() + 1e-6 * x.u[0, 0],
}


@pytest.mark.parametrize("name", INVARIANT)
def test_invariant_functions_pass(draw, name):
    for x in (draw.pair(6, 5, 3), draw.pair(6, 5, 1)):
        assert assert_invariant(INVARIANT[name], x) < 1e-9


@pytest.mark.parametrize("name", ORTHOGONAL_ONLY)
def test_functions_that_are_only_orthogonally_invariant(draw, name):
    pair = draw.pair(6, 5, 3)
    assert_invariant(ORTHOGONAL_ONLY[name], pair, group=Symmetry.O)
    with pytest.raises(AssertionError, match="not invariant within 1e-09: relative error"):
        assert_invariant(ORTHOGONAL_ONLY[name], pair)


@pytest.mark.parametrize("name", NEITHER)
def test_functions_that_must_fail(draw, name):
    pair = draw.pair(6, 5, 3)
    for group in (Symmetry.O, Symmetry.GL):
        with pytest.raises(AssertionError, match="not invariant"):
            assert_invariant(NEITHER[name], pair, group=group)
    assert assert_invariant(NEITHER[name], pair, group=Symmetry.NONE) == 0.0


EQUIVARIANT = {
    "identity": lambda x: x,
    "rows": lambda x: LowRank(x.u[:2], x.v[1:]),
    "linear": lambda x: LowRank(torch.ones(3, 6).double() @ x.u, 2 * x.v),
    "gate": lambda x: LowRank(x.u * x.dense().sum(1, keepdim=True).sigmoid(), x.v),
}
NOT_EQUIVARIANT = {
    "sizes swapped": lambda x: LowRank(x.v, x.u),
    "entries": lambda x: LowRank(x.u.relu(), x.v),
    "columns": lambda x: LowRank(x.u * torch.tensor([1.0, 2, 3]).double(), x.v),
    "bias": lambda x: LowRank(x.u + 1, x.v),
    "invariant": lambda x: LowRank(torch.ones_like(x.u), torch.ones_like(x.v)),
}


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_equivariant_functions_pass(draw, name):
    assert assert_equivariant(EQUIVARIANT[name], draw.pair(6, 6, 3)) < 1e-9


@pytest.mark.parametrize("name", NOT_EQUIVARIANT)
def test_functions_that_are_not_equivariant(draw, name):
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(NOT_EQUIVARIANT[name], draw.pair(6, 6, 3))


def test_all_kinds_of_input(draw):
    for x in (draw.lora(2), draw.batch(), draw.ragged_batch()):
        assert assert_invariant(lambda y: y, x, group=Symmetry.NONE) == 0.0
        assert assert_equivariant(lambda y: y, x) < 1e-9
        assert invariance_error(lambda y: y, x).error > 0.01


def test_hidden_pairs_of_a_batch(draw):
    batch = draw.ragged_batch()

    def first_three(x):
        return tuple(
            torch.cat([f[..., :3] for f in side])
            for side in zip(*[(g.u, g.v) for g in x.groups], strict=True)
        )

    assert_equivariant(first_three, batch)
    with pytest.raises(AssertionError):
        assert_equivariant(lambda x: tuple(f.tanh() for f in first_three(x)), batch)


def test_a_failure_prints_the_gauge_and_its_condition(draw):
    with pytest.raises(AssertionError) as failure:
        assert_invariant(lambda x: x.u, draw.pair(4, 3, 2), condition=5.0)
    message = str(failure.value)
    assert "condition number" in message
    assert "tensor([[" in message
    with pytest.raises(AssertionError, match=r"0: g of shape \(2, 4, 3, 3\)"):
        assert_invariant(lambda x: x, draw.batch())
    with pytest.raises(AssertionError, match=r"a\.q: tensor"):
        assert_invariant(lambda x: x, draw.lora(2))


def test_the_error_comes_before_the_assertion(draw):
    pair = draw.pair(4, 3, 2)
    result = invariance_error(lambda x: x.norm() + 1e-6 * x.u[0, 0], pair)
    assert 1e-9 < result.error < 1e-4
    assert 1.0 <= result.condition <= 10.0 + 1e-9
    assert (
        assert_invariant(lambda x: x.norm() + 1e-6 * x.u[0, 0], pair, tolerance=1e-3)
        == result.error
    )


def test_the_condition_bound_is_respected(draw):
    for condition in (1.0, 3.0, 50.0):
        result = invariance_error(lambda x: x.u, draw.pair(4, 3, 2), condition=condition)
        assert result.condition <= condition * (1 + 1e-9)


def test_a_nan_a_changed_shape_and_no_output_are_seen(draw):
    pair = draw.pair(4, 3, 2)
    calls = iter([1.0, float("nan"), 1.0, 1.0])
    with pytest.raises(AssertionError, match="inf"):
        assert_invariant(lambda x: next(calls), pair)
    sizes = iter([2, 3, 3, 3])
    with pytest.raises(AssertionError, match="inf"):
        assert_invariant(lambda x: torch.ones(next(sizes)), pair)
    assert assert_invariant(lambda x: torch.empty(0), pair) == 0.0


def test_a_failure_comes_again_the_same(draw):
    pair = draw.pair(4, 3, 2)
    a, b = (invariance_error(lambda x: x.u, pair) for _ in range(2))
    assert a.error == b.error
    assert torch.equal(a.gauge, b.gauge)
    other = invariance_error(lambda x: x.u, pair, generator=torch.Generator().manual_seed(5))
    assert other.error != a.error


def test_misuse(draw):
    with pytest.raises(DataError, match="0 trials"):
        invariance_error(lambda x: x, draw.pair(4, 3, 2), trials=0)
    with pytest.raises(DataError, match="returned Tensor"):
        equivariance_error(lambda x: x.u, draw.pair(4, 3, 2))


def test_functions_with_weights(draw):
    weight = draw.normal(2, 4).requires_grad_()
    assert assert_equivariant(lambda x: LowRank(weight @ x.u, x.v), draw.pair(4, 3, 2)) < 1e-9
