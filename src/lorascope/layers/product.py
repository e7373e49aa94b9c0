"""From hidden pairs to invariant features: the products that a head reads.

    full:  p_blcd = sum_r u_lbrc v_lbrd        (b, l, c, c)
    mean:  mean over c and d of p_blcd         (b, l)

The batch comes first from here on: turning the narrow pairs costs less than turning their products.

The full product is complete: the products separate the orbits of pairs of full rank (arXiv 2410.04207,
lemma 3). The mean is what the paper's CLIP task uses; it is the product of the mean rows.

Under g: u g g^-1 v^T = u v^T.
"""

from torch import Tensor

from lorascope.layers.hidden import HiddenPair

__all__ = ["full_product", "mean_product"]


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
