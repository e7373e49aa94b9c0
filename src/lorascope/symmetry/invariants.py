"""What no change of gauge alters: norms, inner products, spectra and projections of the update u v^T.

    norm^2 = sum((u^T u) * (v^T v))         inner = sum((u^T s) * (v^T t))
    singular values of r_u r_v^T            with u = q_u r_u, v = q_v r_v
    projected product = (phi^T u) (psi^T v)^T      (c, c)

All go through r x r or c x c matrices, never through the dense update. Results of whole batches are in
signature order, (b, l, ...). Norms and spectra carry no gradient to the factors.

Two routes to the spectrum. "qr" is accurate: a singular value carries an error of about eps |u| |v|; r_u and
r_v come from Gram matrices where that is safe (`roots`). "gram" takes the square roots of the eigenvalues of
(u^T u)(v^T v) and squares the condition number, so that singular values below sqrt(eps) |u| |v| are lost. It
works in float64 whatever the factors are, where sqrt(eps) = 1.5e-8: as good as float32 factors deserve.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lorascope.core.batch import GroupBatch, LoRABatch
from lorascope.errors import DataError, SignatureError
from lorascope.symmetry.roots import Roots, factor_roots, gram_roots

__all__ = [
    "effective_ranks",
    "inner_products",
    "layer_norms",
    "norms",
    "projected_products",
    "singular_values",
    "spectra",
]

Route = Literal["qr", "gram"]


def norms(batch: LoRABatch) -> Tensor:  # (b, l)
    """Frobenius norm of each layer's update, 0 where the layer is missing.

    Example:
        >>> from lorascope.core import LoRA, LowRank, collate
        >>> norms(collate([LoRA({"q": LowRank(torch.ones(3, 1), torch.ones(3, 1))})])).round().tolist()
        [[3.0]]
    """
    return _in_order(batch, [layer_norms(group.u, group.v) for group in batch.groups])


def layer_norms(u: Tensor, v: Tensor) -> Tensor:  # (..., r, n), (..., r, m) -> (...)
    """Frobenius norms of stacked updates, in at least float32.

    An update that cancels up to rounding, such as that of a LoRA added to its negative, has norm 0.
    """
    dtype = torch.promote_types(u.dtype, torch.float32)
    r_u, r_v = factor_roots([u, v])
    norm = torch.linalg.matrix_norm(r_u @ r_v.mT)
    size = torch.linalg.matrix_norm(r_u) * torch.linalg.matrix_norm(r_v)
    real = norm > torch.finfo(dtype).eps * u.shape[-2] * size
    return torch.where(real, norm, 0.0).to(dtype)


def inner_products(a: LoRABatch, b: LoRABatch) -> Tensor:  # (b, l)
    """<dW, dW'> per layer between the LoRAs of two batches in pairs; a batch of one goes with all.

    Accumulated in float64, returned in the type of the factors, at least float32.

    Raises:
        SignatureError: the two have other layers.
        DataError: their sizes do not go together.
    """
    if a.signature.layers != b.signature.layers:
        raise SignatureError(
            f"Taking inner products: found {len(a.signature)} and {len(b.signature)} layers that are not "
            "the same, expected one signature. Try: collate() both under one."
        )
    if a.size != b.size and 1 not in (a.size, b.size):
        raise DataError(
            f"Taking inner products in pairs: found {a.size} and {b.size} LoRAs, expected equal sizes. "
            "Try: core.gram for all against all."
        )
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    parts = [
        ((x.u.double() @ y.u.double().mT) * (x.v.double() @ y.v.double().mT)).sum((-1, -2))
        for x, y in zip(a.groups, b.groups, strict=True)
    ]
    return _in_order(a, parts).to(dtype)


def singular_values(
    u: Tensor,  # (..., r, n)
    v: Tensor,  # (..., r, m)
    *,
    route: Route = "qr",
) -> Tensor:  # (..., r)
    """Falling singular values of stacked pairs, padded with zeros to r, in at least float32.

    Raises DataError for a route that is neither "qr" nor "gram".
    """
    dtype = torch.promote_types(u.dtype, torch.float32)
    if route == "gram":
        return _by_gram(u.detach().double(), v.detach().double()).to(dtype)
    if route != "qr":
        raise DataError(f"Computing spectra: found the route {route!r}, expected 'qr' or 'gram'.")
    r_u, r_v = factor_roots([u, v])
    return Roots(r_u, r_v, dtype).values.to(dtype)


def spectra(
    batch: LoRABatch, *, route: Route = "qr", roots: Roots | None = None
) -> Tensor:  # (b, l, r)
    """Falling singular values of every layer's update, zeros beyond its rank.

    `roots` are those of the batch, where they are known already; the route is then "qr".

    Example:
        >>> from lorascope.core import LoRA, LowRank, collate
        >>> pair = LowRank(torch.eye(3)[:, :2] * 2, torch.eye(4)[:, :2])
        >>> spectra(collate([LoRA({"q": pair})])).tolist()
        [[[2.0, 2.0]]]
    """
    if route != "qr":
        return _in_order(batch, [singular_values(g.u, g.v, route=route) for g in batch.groups])
    known = gram_roots(batch) if roots is None else roots
    return _in_order(batch, [known.values.to(known.dtype)])


def effective_ranks(values: Tensor) -> Tensor:  # (..., r) -> (...)
    """exp of the entropy of normalised singular values (Roy and Vetterli 2007); 0 for a zero update."""
    total = values.sum(-1, keepdim=True)
    share = values / torch.where(total > 0, total, 1.0)
    rank = torch.special.entr(share).sum(-1).exp()
    return torch.where(total.squeeze(-1) > 0, rank, 0.0)


def projected_products(
    groups: Sequence[GroupBatch],
    phi: Sequence[Tensor],  # one (l, n, c) a shape group
    psi: Sequence[Tensor],  # one (l, m, c') a shape group
) -> Tensor:  # (b, l, c, c')
    """phi^T dW psi for each layer, layers in group order: c c' linear functions of every update."""
    parts = []
    for group, left, right in zip(groups, phi, psi, strict=True):
        layers, size, rank, _ = group.u.shape
        u = torch.bmm(group.u.flatten(1, 2), left).view(layers, size, rank, -1)
        v = torch.bmm(group.v.flatten(1, 2), right).view(layers, size, rank, -1)
        parts.append(u.mT @ v)
    return torch.cat(parts).transpose(0, 1)


def _by_gram(u: Tensor, v: Tensor) -> Tensor:
    """sqrt eig of (u^T u)(v^T v), made symmetric by the root of the first factor."""
    values, vectors = torch.linalg.eigh(u @ u.mT)
    root = vectors * values.clamp(min=0).sqrt().unsqueeze(-2)
    square: Tensor = torch.linalg.eigvalsh(root.mT @ (v @ v.mT) @ root)
    return square.clamp(min=0).sqrt().flip(-1)


def _in_order(
    batch: LoRABatch, parts: Sequence[Tensor]
) -> Tensor:  # (l, b, ...) each -> (b, l, ...)
    return torch.cat(list(parts))[batch.layer_order].transpose(0, 1)
