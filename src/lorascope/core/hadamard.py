"""`Hadamard`: an update (a1 b1) * (a2 b2), the entrywise product of two low-rank matrices, kept as both.

    one: a1 (n, r1), b1^T (m, r1)    two: a2 (n, r2), b2^T (m, r2)    update[i, j] = one[i, j] two[i, j]

As a pair it has the row-wise Khatri-Rao products as columns,

    u[:, pq] = a1[:, p] a2[:, q]     v[:, pq] = b1[p] b2[q]           of rank r1 r2,

which is r/2 times as large and soon larger than the matrix itself. The update times a vector needs neither:
(update x)_i = a1_i (b1 diag(x) b2^T) a2_i. Norms and inner products go through blocks of rows.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorascope.core.low_rank import LowRank, Truncated
from lorascope.core.update import Update, check_alike, check_room
from lorascope.errors import LayerError

__all__ = ["Hadamard"]

BLOCK_VALUES = 1 << 16  # of scratch memory: 512 KiB in float64


@dataclass(frozen=True, eq=False)
class Hadamard:
    """The update one * two of one layer, entry by entry.

    Args:
        one: a pair of shape (n, m); a scale is folded into its u.
        two: a pair of the same shape, kernel, type and device.

    Raises:
        LayerError: the two pairs do not go together.

    Example:
        >>> pair = LowRank(torch.full((3, 1), 2.0), torch.ones(4, 1))
        >>> update = Hadamard(pair, pair)
        >>> update.shape, update.rank, update.dense()[0].tolist()
        ((3, 4), 1, [4.0, 4.0, 4.0, 4.0])
    """

    one: LowRank
    two: LowRank

    def __post_init__(self) -> None:
        a, b = self.one, self.two
        if (a.shape, a.kernel, a.dtype, a.device) != (b.shape, b.kernel, b.dtype, b.device):
            raise LayerError(
                f"Making an entrywise product: found {a!r} on {a.device} and {b!r} on {b.device}, expected "
                "pairs of one shape, kernel, type and device."
            )

    @property
    def n(self) -> int:
        """Output width."""
        return self.one.n

    @property
    def m(self) -> int:
        """Input width (for a convolution: in_channels times the kernel's size)."""
        return self.one.m

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m), the shape of the update."""
        return self.one.shape

    @property
    def rank(self) -> int:
        """min(r1 r2, n, m), the columns of its pair; the true rank may be lower."""
        return min(self.one.rank * self.two.rank, self.n, self.m)

    @property
    def kernel(self) -> tuple[int, ...]:
        """Spatial shape of a convolution's kernel, () for a matrix."""
        return self.one.kernel

    @property
    def dtype(self) -> torch.dtype:
        """Type of all factors."""
        return self.one.dtype

    @property
    def device(self) -> torch.device:
        """Device of all factors."""
        return self.one.device

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """u and v of both pairs."""
        return (*self.one.factors, *self.two.factors)

    @property
    def nbytes(self) -> int:
        """Bytes that the factors take."""
        return self.one.nbytes + self.two.nbytes

    @property
    def parameter_count(self) -> int:
        """Number of values in the factors."""
        return self.one.parameter_count + self.two.parameter_count

    def to(
        self, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> "Hadamard":
        """The same factors in another type or on another device."""
        return Hadamard(self.one.to(dtype, device), self.two.to(dtype, device))

    def norm(self) -> Tensor:
        """Frobenius norm of the update, 0-d."""
        return self.trace(self).clamp(min=0).sqrt().to(self._result_dtype)

    def trace(self, other: Update) -> Tensor:
        """Frobenius inner product in float64, 0-d. Raises LayerError if the shapes differ.

        With its own kind by blocks of rows of both; with a pair column by column.
        """
        check_alike(self, other)
        if isinstance(other, Hadamard):
            total = _zero(self)
            for mine, theirs in zip(self.row_blocks(), other.row_blocks(), strict=True):
                total += torch.dot(mine.flatten(), theirs.flatten())
            return total
        if not isinstance(other, LowRank):
            return other.trace(self)
        pair, wide = other.to(torch.float64), self.to(torch.float64)
        step = max(1, BLOCK_VALUES // max((self.n + self.m) * max(self.one.rank, self.two.rank), 1))
        total = _zero(self)
        for u, v in zip(torch.split(pair.u.T, step), torch.split(pair.v.T, step), strict=True):
            total = total + (wide.matvec(v) * u).sum()
        return total

    def inner(self, other: Update) -> Tensor:
        """Frobenius inner product, 0-d. Raises LayerError if the shapes differ."""
        return self.trace(other).to(self._result_dtype)

    def cosine(self, other: Update) -> Tensor:
        """Cosine of the angle between the two updates, 0-d; 0 if either is zero."""
        square = self.trace(self).clamp(min=0) * other.trace(other).clamp(min=0)
        cosine = self.trace(other) / square.sqrt()
        return torch.where(square > 0, cosine, 0.0).to(self._result_dtype)

    def singular_values(self) -> Tensor:
        """The `rank` largest singular values, descending."""
        if self.one.rank * self.two.rank > min(self.shape):
            return torch.linalg.svdvals(self.dense().to(self._result_dtype))
        return self.to_low_rank().singular_values()

    def effective_rank(self) -> Tensor:
        """exp of the entropy of the normalised singular values, 0-d; 0 for a zero update."""
        values = self.singular_values()
        total = values.sum()
        shares = torch.where(total > 0, values / total, torch.zeros_like(values))
        return torch.special.entr(shares).sum().exp() * (total > 0)

    def matvec(self, x: Tensor) -> Tensor:  # (..., m) -> (..., n)
        """Apply the update to vectors, through r1 x r2 matrices."""
        core = (self.one.v.T * x.unsqueeze(-2)) @ self.two.v  # (..., r1, r2)
        return ((self.one.u @ core) * self.two.u).sum(-1)

    def row_blocks(self) -> Iterator[Tensor]:  # (k, m) each
        """The update in float64, a block of rows after the other."""
        step = max(1, BLOCK_VALUES // max(self.m, 1))
        v1, v2 = self.one.v.double().T, self.two.v.double().T
        for u1, u2 in zip(
            torch.split(self.one.u, step), torch.split(self.two.u, step), strict=True
        ):
            yield (u1.double() @ v1).mul_(u2.double() @ v2)

    def truncate(self, rank: int) -> Truncated:
        """The best pair at a rank, and the share of the squared norm that it keeps."""
        return self.to_low_rank().truncate(rank)

    def to_low_rank(self) -> LowRank:
        """The update as a pair, exactly, in at least float32. Raises LayerError above `MAX_VALUES` values.

        With more columns than the matrix is wide it is the matrix itself beside a unit matrix: what QR of the
        longer pair gives, up to a rotation, at the price of two thin products.
        """
        columns = self.one.rank * self.two.rank
        if columns > min(self.shape):
            matrix = self.to(self._result_dtype).dense()
            eye = torch.eye(min(self.shape), dtype=matrix.dtype, device=self.device)
            pair = (matrix, eye) if self.m <= self.n else (eye, matrix.T)
            return LowRank(*pair, self.kernel)
        check_room(self, (self.n + self.m) * columns)
        one, two = (pair.to(self._result_dtype) for pair in (self.one, self.two))
        u = (one.u.unsqueeze(2) * two.u.unsqueeze(1)).flatten(1)
        v = (one.v.unsqueeze(2) * two.v.unsqueeze(1)).flatten(1)
        return LowRank(u, v, self.kernel)

    def dense(self) -> Tensor:  # (n, m)
        """The update itself. Raises LayerError above `MAX_VALUES` values."""
        check_room(self, self.n * self.m)
        return self.one.dense() * self.two.dense()

    def dense_weight(self) -> Tensor:  # (n, m) or (n, in, *kernel)
        """The update in the shape of the layer's weight."""
        if not self.kernel:
            return self.dense()
        return self.dense().reshape(self.n, self.m // math.prod(self.kernel), *self.kernel)

    def __add__(self, other: Update) -> LowRank:
        """The sum of two updates, as a pair."""
        return self.to_low_rank() + other

    def __mul__(self, factor: float) -> "Hadamard":
        """The update times a number, put into the first pair."""
        return replace(self, one=self.one * factor)

    __rmul__ = __mul__

    def __repr__(self) -> str:
        kernel = f", kernel={self.kernel}" if self.kernel else ""
        ranks = f"{self.one.rank} * {self.two.rank}"
        return f"Hadamard(n={self.n}, m={self.m}, r={ranks}{kernel}, {self.dtype})"

    @property
    def _result_dtype(self) -> torch.dtype:
        return torch.promote_types(self.dtype, torch.float32)


def _zero(update: Hadamard) -> Tensor:
    return torch.zeros((), dtype=torch.float64, device=update.device)
