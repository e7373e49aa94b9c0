"""From hidden pairs to invariant features: the products that a head reads.

    full:  p_blcd = sum_r u_lbrc v_lbrd        (b, l, c, c)
    mean:  mean over c and d of p_blcd         (b, l)
    form:  sum_cd w_klcd p_blcd                (l, b, k), the share of a layer in k linear outputs

The batch comes first from here on: turning the narrow pairs costs less than turning their products.

The form of a linear head with few outputs is cheaper taken from the pair, as (u w) . v: k r c numbers a layer
instead of c^2, and two large operations instead of l b small products.

The full product is complete: the products separate the orbits of pairs of full rank (arXiv 2410.04207,
lemma 3). The mean is what the paper's CLIP task uses; it is the product of the mean rows.

Under g: u g g^-1 v^T = u v^T.
"""

from torch import Tensor

from lorascope.layers.hidden import HiddenPair
from lorascope.layers.matmul import batched_matmul

__all__ = ["bilinear_form", "full_product", "mean_product"]


def full_product(pair: HiddenPair) -> Tensor:  # (b, l, c, c)
    """The c x c product of every layer of every LoRA.

    Example:
        >>> import torch
        >>> full_product(HiddenPair(torch.ones(1, 1, 2, 3), torch.ones(1, 1, 2, 3))).shape
        torch.Size([1, 1, 3, 3])
    """
    u, v = (x.transpose(0, 1).contiguous() for x in pair)
    return u.mT @ v


def mean_product(pair: HiddenPair) -> Tensor:  # (b, l)
    """The mean entry of every product, in O(r c): the c x c product is not formed.

    Example:
        >>> import torch
        >>> mean_product(HiddenPair(torch.ones(1, 1, 2, 3), torch.ones(1, 1, 2, 3)))
        tensor([[2.]])
    """
    return (pair.u.mean(-1) * pair.v.mean(-1)).sum(-1).T


def bilinear_form(pair: HiddenPair, weight: Tensor) -> Tensor:  # (k, l c c) -> (l, b, k)
    """What every layer adds to linear outputs on the products; the products are not formed.

    Summed over the layers it is full_product(pair).flatten(1) @ weight.T.

    Example:
        >>> import torch
        >>> pair = HiddenPair(torch.ones(1, 1, 2, 3), torch.ones(1, 1, 2, 3))
        >>> bilinear_form(pair, torch.ones(1, 9))
        tensor([[[18.]]])
    """
    layers, size, rank, channels = pair.u.shape
    outputs = weight.shape[0]
    by_layer = weight.reshape(outputs, layers, channels, channels).permute(1, 2, 0, 3)
    mixed = batched_matmul(pair.u.flatten(1, 2), by_layer.flatten(2))  # (l, b r, k d)
    mixed = mixed.view(layers, size, rank, outputs, channels)
    return (mixed * pair.v.unsqueeze(3)).sum((2, 4))
