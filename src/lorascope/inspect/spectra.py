"""Singular values of updates of every kind, without the updates and in bounded memory.

    pair         G_u = u^T u = L L^T, G_v = v^T v       squares: the eigenvalues of L^T G_v L    (r, r)
    Kronecker    kron(w1, w2)                           the products of those of w1 and w2
    Hadamard     columns a1[:, p] a2[:, q]              G_u[pq, p'q'] = sum_i (a1 a1)[i, pp'] (a2 a2)[i, qq']
                 or, where these are more than half of min(n, m), the matrix's own Gram matrix by blocks of rows

All in float64. A Gram matrix squares the condition number, which float64 affords: values down to 1e-7 of the
largest are right, and below that all are "dead". Scratch memory is a few r x r matrices and CHUNK_BYTES.
"""

import torch
from torch import Tensor

from lorascope.core import Hadamard, Kronecker, LowRank, Update

__all__ = ["core_width", "spectrum_of", "stacked_spectra"]

CHUNK_BYTES = 1 << 23  # float64 copies of the factors are made in pieces of this size


def core_width(update: Update) -> int:
    """The width of the matrix whose eigenvalues the spectrum takes: time goes with its cube, memory with its
    square."""
    if isinstance(update, Kronecker):
        return max(min(*w.shape, getattr(w, "rank", w.shape[0])) for w in (update.w1, update.w2))
    narrow = min(*update.shape, update.rank)
    return (
        min(update.shape)
        if isinstance(update, Hadamard) and 2 * narrow > min(update.shape)
        else narrow
    )


def spectrum_of(update: Update) -> tuple[Tensor, bool]:  # (r,)
    """Singular values of one update, descending, and whether they are finite numbers; zeros if not."""
    if isinstance(update, Kronecker):
        (one, good), (two, fine) = _factor_spectrum(update.w1), _factor_spectrum(update.w2)
        values = torch.outer(one, two).flatten().sort(descending=True).values
        return values, good and fine and bool(values.isfinite().all())
    if isinstance(update, Hadamard):
        if 2 * update.rank > min(update.shape):
            values, good = _of_square(_matrix_gram(update))
            return values[: update.rank], good
        gram_u = _product_gram(update.one.u, update.two.u)
        gram_v = _product_gram(update.one.v, update.two.v)
        values, finite = _from_grams(gram_u[None], gram_v[None])
        return values[0], bool(finite[0])
    pair = update.to_low_rank()
    if pair.rank > min(pair.shape):
        pair = pair.to(torch.float64).narrow()
    values, finite = stacked_spectra([pair])
    return values[0], bool(finite[0])


def stacked_spectra(pairs: list[LowRank]) -> tuple[Tensor, Tensor]:  # (l, r), (l,)
    """Singular values of pairs of one rank, descending, and whether they are finite; zeros if not."""
    gram_u, gram_v = (
        grams([pair.u for pair in pairs]),
        grams([pair.v for pair in pairs]),
    )  # (l, r, r)
    return _from_grams(gram_u, gram_v)


def _from_grams(gram_u: Tensor, gram_v: Tensor) -> tuple[Tensor, Tensor]:  # (l, r), (l,)
    """Of u v^T from (l, r, r) both, which are written over."""
    # balance the columns first: a gauge that puts all size into one factor costs no precision then
    size = gram_u.diagonal(dim1=1, dim2=2).sqrt()  # (l, r)
    ratio = torch.where(size > 0, 1 / size, 0.0)
    gram_u.mul_(ratio[:, :, None]).mul_(ratio[:, None, :])
    gram_v.mul_(size[:, :, None]).mul_(size[:, None, :])
    finite = gram_u.isfinite().flatten(1).all(1) & gram_v.isfinite().flatten(1).all(1)
    finite &= size.isfinite().all(1)
    if not finite.all():
        gram_u[~finite], gram_v[~finite] = 0.0, 0.0
    root = square_root(gram_u)
    square = (root.mT @ gram_v) @ root
    return torch.linalg.eigvalsh(square).clamp(min=0).flip(1).sqrt(), finite


def _factor_spectrum(w: Tensor | LowRank) -> tuple[Tensor, bool]:
    """Of one factor of a Kronecker product: a pair, or a matrix."""
    if isinstance(w, LowRank):
        return spectrum_of(w)
    short = w.T if w.shape[1] > w.shape[0] else w
    return _of_square(grams([short])[0])


def _of_square(gram: Tensor) -> tuple[Tensor, bool]:  # (r, r) -> (r,)
    """From the Gram matrix of a matrix."""
    if not gram.isfinite().all():
        return gram.new_zeros(gram.shape[0]), False
    return torch.linalg.eigvalsh(gram).clamp(min=0).flip(0).sqrt(), True


def _matrix_gram(update: Hadamard) -> Tensor:  # (k, k), k = min(n, m)
    """The Gram matrix of the update on its shorter side."""
    if update.n < update.m:
        one, two = (LowRank(pair.v, pair.u) for pair in (update.one, update.two))
        update = Hadamard(one, two)
    total = torch.zeros(update.m, update.m, dtype=torch.float64, device=update.device)
    for rows in update.row_blocks():
        total.addmm_(rows.T, rows)
    return total


def _product_gram(a: Tensor, b: Tensor) -> Tensor:  # (n, r), (n, q) -> (r q, r q)
    """f^T f of f[:, pq] = a[:, p] b[:, q]: products of two columns stand in it once for each order."""
    upper = [torch.triu_indices(x.shape[1], x.shape[1], device=x.device) for x in (a, b)]
    total = a.new_zeros(upper[0].shape[1], upper[1].shape[1], dtype=torch.float64)
    step = max(1, CHUNK_BYTES // (8 * (total.shape[0] + total.shape[1])))
    for x, y in zip(torch.split(a, step), torch.split(b, step), strict=True):
        x, y = x.double(), y.double()
        total.addmm_(
            (x[:, upper[0][0]] * x[:, upper[0][1]]).T, y[:, upper[1][0]] * y[:, upper[1][1]]
        )
    places = []
    for (low, high), x in zip(upper, (a, b), strict=True):
        place = torch.zeros(x.shape[1], x.shape[1], dtype=torch.int64, device=x.device)
        place[low, high] = place[high, low] = torch.arange(low.numel(), device=x.device)
        places.append(place)
    width = a.shape[1] * b.shape[1]
    return total[places[0][:, None, :, None], places[1][None, :, None, :]].reshape(width, width)


def square_root(gram: Tensor) -> Tensor:  # (l, r, r) -> (l, r, r)
    """L with gram = L L^T, for gram of unit diagonal: by Cholesky, 14 times as fast as by eigenvectors.

    Dependent columns have none: they get a ridge of r 1e-15, which moves singular values by less than 1e-6 of
    the largest, below what counts as dead; and eigenvectors where that does not help either.
    """
    root, failed = torch.linalg.cholesky_ex(gram)
    if failed.any():
        rank = gram.shape[1]
        ridge = 1e-15 * rank * torch.eye(rank, dtype=gram.dtype, device=gram.device)
        root[failed > 0], still = torch.linalg.cholesky_ex(gram[failed > 0] + ridge)
        failed[failed > 0] = still
    if failed.any():
        values, vectors = torch.linalg.eigh(gram[failed > 0])
        root[failed > 0] = vectors * values.clamp(min=0).sqrt()[:, None, :]
    return root


def grams(factors: list[Tensor]) -> Tensor:  # l times (n, r) -> (l, r, r)
    """f^T f of each factor in float64, those of one width and layout at once, in pieces of bounded memory."""
    rank = factors[0].shape[1]
    found = factors[0].new_zeros((len(factors), rank, rank), dtype=torch.float64)
    alike: dict[tuple[object, ...], list[int]] = {}
    for place, factor in enumerate(factors):
        # a reader's v is a view of (r, m): stacked as it lies, it is copied row by row
        key = (factor.shape[0], factor.dtype, factor.is_contiguous())
        alike.setdefault(key, []).append(place)
    for (_, _, upright), places in alike.items():
        step = CHUNK_BYTES // max(8 * factors[places[0]].numel(), 1)
        if not step:
            for place in places:
                found[place] = _tall_gram(factors[place])
            continue
        for start in range(0, len(places), step):
            piece = places[start : start + step]
            if upright:
                stack = torch.stack([factors[place] for place in piece]).double()
                found[piece] = stack.mT @ stack
            else:
                stack = torch.stack([factors[place].mT for place in piece]).double()
                found[piece] = stack @ stack.mT
    return found


def _tall_gram(factor: Tensor) -> Tensor:  # (n, r) -> (r, r)
    """f^T f of one factor that is larger than a piece, by blocks of rows."""
    rank = factor.shape[1]
    total = factor.new_zeros((rank, rank), dtype=torch.float64)
    for rows in torch.split(factor, max(1, CHUNK_BYTES // (8 * rank))):
        wide = rows.double()
        total.addmm_(wide.T, wide)
    return total
