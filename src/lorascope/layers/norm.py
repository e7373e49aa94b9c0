"""The GL norm: divide a pair by the root of the Frobenius norm of its product.

    u' = gamma u / sqrt(q),  v' = beta v / sqrt(q),    q = |u v^T|_F = sqrt(sum((u^T u) * (v^T v)))

so that u' v'^T has norm 1 before the learned row scales gamma and beta (one number a layer and channel).
The norm goes through two r x r Gram matrices. A product of zero stays zero and gives no infinite gradient.

Under g: q is the norm of u v^T, which does not change; a scalar and row scales commute with g.
"""

import torch
from torch import Tensor, nn

from lorascope.layers.hidden import HiddenPair

__all__ = ["GLNorm", "divide_by_norm", "one_over_norm", "product_norm"]


def product_norm(u: Tensor, v: Tensor) -> Tensor:  # (..., r, n), (..., r, m) -> (...)
    """|u v^T|_F by Gram traces, in at least float32; its gradient at a zero product is 0.

    Example:
        >>> product_norm(torch.ones(1, 2), torch.ones(1, 8))
        tensor(4.)
    """
    # bf16 keeps three digits: too few for sums of products that may cancel
    dtype = torch.promote_types(u.dtype, torch.float32)
    u, v = u.to(dtype), v.to(dtype)
    square = ((u @ u.mT) * (v @ v.mT)).sum((-1, -2))
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


def one_over_norm(norm: Tensor, eps: float = 1e-12) -> Tensor:
    """What a product of this norm is multiplied by; 0 for norms up to eps."""
    return torch.where(norm > eps, norm.clamp(min=eps).reciprocal(), 0.0)


def divide_by_norm(pair: HiddenPair, norm: Tensor, eps: float = 1e-12) -> HiddenPair:  # norm (l, b)
    """Divide u and v each by sqrt(norm): the product is divided by the norm. Norms up to eps give zero."""
    scale = one_over_norm(norm, eps).sqrt().to(pair.u.dtype).unsqueeze(-1).unsqueeze(-1)
    return HiddenPair(pair.u * scale, pair.v * scale)


class GLNorm(nn.Module):
    """Hidden pairs whose products have norm 1, times learned row scales. Parameters: 2 l c.

    Example:
        >>> pair = GLNorm(1, 2)(HiddenPair(torch.ones(1, 1, 1, 2) * 9, torch.ones(1, 1, 1, 2)))
        >>> round((pair.u.mT @ pair.v).norm().item(), 4)
        1.0
    """

    def __init__(self, layers: int, channels: int, *, eps: float = 1e-12) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(torch.ones(layers, 1, 1, channels))
        self.beta = nn.Parameter(torch.ones(layers, 1, 1, channels))

    def forward(self, pair: HiddenPair) -> HiddenPair:  # (l, b, r, c) -> (l, b, r, c)
        u, v = divide_by_norm(pair, product_norm(*pair), self.eps)
        return HiddenPair(u * self.gamma, v * self.beta)
