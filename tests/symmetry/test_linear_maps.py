"""Proposition 1 (arXiv 2410.04207, appendix A), counted: the linear maps that commute with GL(r)^L.

The theorem says that they are (phi_l u_l, psi_l v_l) and nothing else, sum over layers of n n' + m m'
dimensions: no mixing of layers, none of u with v. Here the commutation constraint T rho(g) = rho'(g) T is
written out for random g, and the dimension of its null space is counted numerically.
"""

import pytest
import torch

from lorascope.symmetry import random_gauge


def representation(widths, gauges):
    """rho(g) on the factors of all layers, vectors (u_1, v_1, u_2, v_2, ...) of rows of length r."""
    blocks = []
    for (n, m), g in zip(widths, gauges, strict=True):
        blocks += [torch.kron(torch.eye(n, dtype=g.dtype), g.T.contiguous())]
        blocks += [torch.kron(torch.eye(m, dtype=g.dtype), torch.linalg.inv(g).contiguous())]
    return torch.block_diag(*blocks)


def count(ins, outs, rank, *, orthogonal=False):
    generator = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(4):
        gauges = [
            random_gauge(rank, generator=generator, condition=6.0, orthogonal=orthogonal)
            for _ in ins
        ]
        before, after = representation(ins, gauges), representation(outs, gauges)
        eye_in = torch.eye(len(before), dtype=torch.float64)
        eye_out = torch.eye(len(after), dtype=torch.float64)
        # vec(after T - T before), T read row by row
        rows.append(torch.kron(after, eye_in) - torch.kron(eye_out, before.T.contiguous()))
    values = torch.linalg.svdvals(torch.cat(rows))
    small = int((values < 1e-9 * values[0]).sum())
    # the null space stands clear of the rest, so that the count is no accident of the threshold
    assert float(values[len(values) - small - 1]) > 1e-3
    return small


@pytest.mark.parametrize(
    ("ins", "outs", "rank"),
    [
        ([(2, 3)], [(1, 2)], 1),
        ([(2, 3)], [(3, 1)], 2),
        ([(2, 1)], [(2, 2)], 3),
        ([(2, 1), (1, 2)], [(1, 2), (2, 1)], 2),
        ([(1, 1), (2, 1), (1, 2)], [(2, 1), (1, 1), (1, 2)], 1),
    ],
)
def test_the_dimension_is_that_of_the_theorem(ins, outs, rank):
    expected = sum(n * n_ + m * m_ for (n, m), (n_, m_) in zip(ins, outs, strict=True))
    assert count(ins, outs, rank) == expected


def test_the_orthogonal_group_allows_more():
    """Under O(r) alone u and v are the same representation, so that they may mix: (n + m)(n' + m')."""
    assert count([(2, 1)], [(1, 2)], 2, orthogonal=True) == (2 + 1) * (1 + 2)
