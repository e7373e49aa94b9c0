"""Principal directions: the few rows of output (or input) space that hold most of a collection's updates.

    C = sum over LoRAs of dW dW^T / |dW|^2 = sum u (v^T v) u^T / |u v^T|^2        (n, n)
    rows = leading eigenvectors of C                                             (c, n)

with x = r_v u^T / |u v^T|, v = q_v r_v, so that C = sum x^T x: subspace iteration (Halko, Martinsson, Tropp
2011) needs products with x alone, and neither C nor a dense update is formed. Swap u and v for input space.

Under g: r_v^T r_v = v^T v, and u (v^T v) u^T belongs to the update alone, so that C does not change.
"""

import torch
from torch import Tensor

from lorascope.symmetry.invariants import layer_norms

__all__ = ["principal_directions"]

ITERATIONS, OVERSAMPLING = 5, 8


def principal_directions(
    u: Tensor,  # (l, b, r, n)
    v: Tensor,  # (l, b, r, m)
    count: int,
) -> Tensor:  # (l, min(count, n), n)
    """Orthonormal rows, for each layer, that hold the most of the updates of b LoRAs, the most first.

    Computed in float32, or float64 for float64 factors. Directions of nearly equal weight are not told
    apart; the space of all of them is what is meant. Without gradient.

    Example:
        >>> u, v = torch.zeros(1, 1, 1, 3), torch.ones(1, 1, 1, 2)
        >>> u[..., 1] = 2.0
        >>> principal_directions(u, v, 1).abs().round()
        tensor([[[0., 1., 0.]]])
    """
    x = _columns(u.detach(), v.detach())
    width = x.shape[-1]
    count = min(count, width)
    # the same start on every call: the result is a function of the LoRAs
    start = torch.Generator().manual_seed(0)
    size = (width, min(width, count + OVERSAMPLING))
    q = torch.randn(size, generator=start, dtype=torch.float64).to(x.device, x.dtype)
    q = torch.linalg.qr(q).Q.expand(x.shape[0], -1, -1)
    for _ in range(ITERATIONS):
        q = torch.linalg.qr(x.mT @ (x @ q)).Q
    moved = x @ q
    _, turn = torch.linalg.eigh(moved.mT @ moved)  # rising
    rows: Tensor = (q @ turn).mT.flip(-2)[:, :count]
    return rows


def _columns(u: Tensor, v: Tensor) -> Tensor:  # (l, b r, n)
    """x with sum x^T x = sum of dW dW^T / |dW|^2; LoRAs without the layer are zero."""
    dtype = torch.promote_types(u.dtype, torch.float32)
    norms = layer_norms(u, v).to(dtype)
    scale = torch.where(norms > 0, 1 / norms, 0.0)
    r_v = torch.linalg.qr(v.mT.to(dtype), mode="r").R * scale.unsqueeze(-1).unsqueeze(-1)
    columns: Tensor = r_v @ u.to(dtype)
    return columns.flatten(1, 2)
