"""`Kronecker`: an update kron(w1, w2) kept as its two factors, each a whole matrix or a pair.

    w1: (p, q)    w2: (s, t)    update = kron(w1, w2): (p s, q t)

    |update| = |w1| |w2|              <kron(w1, w2), kron(x1, x2)> = <w1, x1> <w2, x2>
    singular values: all products s_i(w1) s_j(w2)          effective rank: the product of both
    kron(w1, w2) x = w1 X w2^T        with x: (q t,) read as X: (q, t)

so nothing here costs more than the factors and the spectrum. As a pair it has the Khatri-Rao columns
u = kron(u1, u2), v = kron(v1, v2), of which there are min(r1, p, q) min(r2, s, t).
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorascope.core.low_rank import FLOATS, LowRank, Truncated
from lorascope.core.update import Update, check_alike, check_room
from lorascope.errors import LayerError

__all__ = ["Kronecker"]


@dataclass(frozen=True, eq=False)
class Kronecker:
    """The update kron(w1, w2) of one layer.

    Args:
        w1: (p, q), a matrix or a pair; a scale is folded into it.
        w2: (s, t), a matrix or a pair.
        kernel: spatial shape of a convolution's kernel, () for a matrix; it belongs to w2's columns.

    Raises:
        LayerError: a factor is no matrix, the types or devices differ, or the kernel does not fit.

    Example:
        >>> update = Kronecker(torch.ones(2, 3), LowRank(torch.ones(4, 1), torch.ones(5, 1)))
        >>> update.shape, update.rank, update.parameter_count, round(float(update.norm()), 4)
        ((8, 15), 2, 15, 10.9545)
    """

    w1: Tensor | LowRank  # (p, q)
    w2: Tensor | LowRank  # (s, t)
    kernel: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        tensors = self.factors
        kinds = {(tensor.dtype, tensor.device) for tensor in tensors}
        if (
            any(tensor.ndim != 2 for tensor in tensors)
            or len(kinds) > 1
            or tensors[0].dtype not in FLOATS
        ):
            found = ", ".join(f"{tuple(t.shape)} {t.dtype} on {t.device}" for t in tensors)
            raise LayerError(
                f"Making a Kronecker product: found {found}, expected matrices or pairs of one floating type "
                "(bf16, fp16, fp32, fp64) on one device. Try: .to()."
            )
        if self.kernel and self.w2.shape[1] % math.prod(self.kernel):
            raise LayerError(
                f"Making a convolution's Kronecker product: the width {self.w2.shape[1]} of w2 is no multiple "
                f"of the kernel {self.kernel}. Expected in_channels / q * {math.prod(self.kernel)}."
            )

    @property
    def n(self) -> int:
        """Output width p s."""
        return self.w1.shape[0] * self.w2.shape[0]

    @property
    def m(self) -> int:
        """Input width q t (for a convolution: in_channels times the kernel's size)."""
        return self.w1.shape[1] * self.w2.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m), the shape of the update."""
        return self.n, self.m

    @property
    def rank(self) -> int:
        """min(r1, p, q) min(r2, s, t), with r the columns of a pair; the true rank may be lower."""
        return math.prod(
            min(*w.shape, w.rank) if isinstance(w, LowRank) else min(w.shape)
            for w in (self.w1, self.w2)
        )

    @property
    def dtype(self) -> torch.dtype:
        """Type of all factors."""
        return self.factors[0].dtype

    @property
    def device(self) -> torch.device:
        """Device of all factors."""
        return self.factors[0].device

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """w1 and w2, or u and v of each that is a pair."""
        parts = [w.factors if isinstance(w, LowRank) else (w,) for w in (self.w1, self.w2)]
        return (*parts[0], *parts[1])

    @property
    def nbytes(self) -> int:
        """Bytes that the factors take."""
        return sum(tensor.nbytes for tensor in self.factors)

    @property
    def parameter_count(self) -> int:
        """Number of values in the factors."""
        return sum(tensor.numel() for tensor in self.factors)

    @property
    def pairs(self) -> tuple[LowRank, LowRank]:
        """Both factors as pairs of no more columns than they are wide: a matrix beside a unit matrix."""
        return _pair(self.w1), _pair(self.w2)

    def to(
        self, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> "Kronecker":
        """The same factors in another type or on another device."""
        return replace(
            self,
            w1=self.w1.to(dtype=dtype, device=device),
            w2=self.w2.to(dtype=dtype, device=device),
        )

    def norm(self) -> Tensor:
        """Frobenius norm of the update, 0-d."""
        square = _square(self.w1) * _square(self.w2)
        return square.clamp(min=0).sqrt().to(self._result_dtype)

    def trace(self, other: Update) -> Tensor:
        """Frobenius inner product in float64, 0-d. Raises LayerError if the shapes differ.

        Factor by factor for a product cut alike; else column by column of the other's pair.
        """
        check_alike(self, other)
        if isinstance(other, Kronecker) and self.w1.shape == other.w1.shape:
            (a1, a2), (b1, b2) = self.pairs, other.pairs
            return a1.trace(b1) * a2.trace(b2)
        if isinstance(other, Kronecker) and other.rank > self.rank:
            return other.trace(self)
        pair = other.to_low_rank().to(torch.float64)
        return (self.to(torch.float64).matvec(pair.v.T) * pair.u.T).sum()

    def inner(self, other: Update) -> Tensor:
        """Frobenius inner product, 0-d. Raises LayerError if the shapes differ."""
        return self.trace(other).to(self._result_dtype)

    def cosine(self, other: Update) -> Tensor:
        """Cosine of the angle between the two updates, 0-d; 0 if either is zero."""
        square = self.trace(self).clamp(min=0) * other.trace(other).clamp(min=0)
        cosine = self.trace(other) / square.sqrt()
        return torch.where(square > 0, cosine, 0.0).to(self._result_dtype)

    def singular_values(self) -> Tensor:
        """The `rank` largest singular values, descending: the products of those of both factors."""
        one, two = (pair.singular_values() for pair in self.pairs)
        return torch.outer(one, two).flatten().sort(descending=True).values

    def effective_rank(self) -> Tensor:
        """exp of the entropy of the normalised singular values, 0-d: the product of both factors'."""
        one, two = self.pairs
        return one.effective_rank() * two.effective_rank()

    def matvec(self, x: Tensor) -> Tensor:  # (..., m) -> (..., n)
        """Apply the update to vectors: x -> w1 X w2^T, without the update."""
        grid = x.reshape(*x.shape[:-1], self.w1.shape[1], self.w2.shape[1])  # (..., q, t)
        right = _times(grid, self.w2)  # (..., q, s)
        return _times(right.mT, self.w1).mT.flatten(-2)  # (..., p, s)

    def truncate(self, rank: int) -> Truncated:
        """The best pair at a rank: the largest products of singular values, with their vectors.

        Returns the pair and the kept energy, the share of the squared norm that remains (1 for a zero update).
        """
        if rank < 0:
            raise LayerError(
                f"Truncating a Kronecker product: found rank {rank}, expected 0 or more."
            )
        one, two = (pair.truncate(pair.rank).pair for pair in self.to(self._result_dtype).pairs)
        # balanced pairs: the norm of a column of u is the root of its singular value
        sizes = torch.outer(one.u.square().sum(0), two.u.square().sum(0))
        energy = sizes.double().square()
        order = sizes.flatten().argsort(descending=True)[:rank]
        i, j = order // sizes.shape[1], order % sizes.shape[1]
        u = (one.u[:, None, i] * two.u[None, :, j]).flatten(0, 1)
        v = (one.v[:, None, i] * two.v[None, :, j]).flatten(0, 1)
        total = float(energy.sum())
        kept = float(energy.flatten()[order].sum()) / total if total > 0 else 1.0
        return Truncated(LowRank(u.to(self.dtype), v.to(self.dtype), self.kernel), kept)

    def to_low_rank(self) -> LowRank:
        """The update as a pair, exactly: kron(u1, u2), kron(v1, v2), in at least float32.

        Raises LayerError above `MAX_VALUES` values.
        """
        check_room(self, (self.n + self.m) * self.rank)
        one, two = self.to(self._result_dtype).pairs
        return LowRank(_kron(one.u, two.u), _kron(one.v, two.v), self.kernel)

    def dense(self) -> Tensor:  # (n, m)
        """The update itself. Raises LayerError above `MAX_VALUES` values."""
        check_room(self, self.n * self.m)
        one, two = (w.dense() if isinstance(w, LowRank) else w for w in (self.w1, self.w2))
        return _kron(one, two)

    def dense_weight(self) -> Tensor:  # (n, m) or (n, in, *kernel)
        """The update in the shape of the layer's weight."""
        if not self.kernel:
            return self.dense()
        return self.dense().reshape(self.n, self.m // math.prod(self.kernel), *self.kernel)

    def __add__(self, other: Update) -> LowRank:
        """The sum of two updates, as a pair."""
        return self.to_low_rank() + other

    def __mul__(self, factor: float) -> "Kronecker":
        """The update times a number, put into w1."""
        return replace(self, w1=self.w1 * factor)

    __rmul__ = __mul__

    def __repr__(self) -> str:
        w1, w2 = ("x".join(map(str, w.shape)) for w in (self.w1, self.w2))
        kernel = f", kernel={self.kernel}" if self.kernel else ""
        return f"Kronecker({w1} with {w2}, r={self.rank}{kernel}, {self.dtype})"

    @property
    def _result_dtype(self) -> torch.dtype:
        return torch.promote_types(self.dtype, torch.float32)


def _pair(w: Tensor | LowRank) -> LowRank:
    """A pair as it is, narrowed; a matrix beside the unit matrix on its shorter side."""
    if isinstance(w, LowRank):
        return w.narrow()
    rows, columns = w.shape
    eye = torch.eye(min(rows, columns), dtype=w.dtype, device=w.device)
    return LowRank(w, eye) if columns <= rows else LowRank(eye, w.T)


def _square(w: Tensor | LowRank) -> Tensor:
    """Squared Frobenius norm in float64."""
    return w.trace(w) if isinstance(w, LowRank) else w.double().square().sum()


def _times(x: Tensor, w: Tensor | LowRank) -> Tensor:  # (..., q), (p, q) -> (..., p)
    """x w^T."""
    return w.matvec(x) if isinstance(w, LowRank) else x @ w.T


def _kron(a: Tensor, b: Tensor) -> Tensor:  # (p, q), (s, t) -> (p s, q t)
    """torch.kron, which asks for contiguous factors (torch 2.13)."""
    return (a[:, None, :, None] * b[None, :, None, :]).flatten(2).flatten(0, 1)
