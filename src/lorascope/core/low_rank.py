"""`LowRank`: one update u v^T kept as its factor pair.

    u: (n, r)    v: (m, r)    update = u v^T: (n, m)

The algebra works on the pair, through r x r matrices, and never forms the update; `dense()` is the one
named step that does. It is not a layer with a name (that is the key in a `LoRA`) and knows no file.

Norms and inner products are Gram traces, <u v^T, s t^T> = sum((u^T s) * (v^T t)), accumulated in float64.
Spectra go through thin QR and an r x r SVD, because the Gram route would square the condition number.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from lorascope.core.update import Update, check_alike
from lorascope.errors import LayerError

__all__ = ["LowRank", "Truncated", "gram_trace"]

FLOATS = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class LowRank:
    """A factor pair (u, v) that stands for the update u v^T of one layer.

    Args:
        u: (n, r), the side of the outputs (PEFT's B times the scale).
        v: (m, r), the side of the inputs (PEFT's A, transposed).
        kernel: spatial shape of a convolution's kernel, () for a matrix; then m = in_channels * prod(kernel).

    Raises:
        LayerError: the shapes, types or devices of the two factors do not go together.

    Example:
        >>> pair = LowRank(torch.eye(3)[:, :2], torch.eye(4)[:, :2])
        >>> pair.shape, pair.rank, round(float(pair.norm()), 4)
        ((3, 4), 2, 1.4142)
    """

    u: Tensor  # (n, r)
    v: Tensor  # (m, r)
    kernel: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        u, v = self.u, self.v
        if u.ndim != 2 or v.ndim != 2 or u.shape[1] != v.shape[1]:
            raise LayerError(
                f"Making a factor pair: found u {tuple(u.shape)} and v {tuple(v.shape)}, expected "
                "(n, r) and (m, r) with the same r. Try: transpose PEFT's A, which is (r, m)."
            )
        if u.dtype not in FLOATS or v.dtype != u.dtype or u.device != v.device:
            raise LayerError(
                f"Making a factor pair: found u {u.dtype} on {u.device} and v {v.dtype} on {v.device}, "
                "expected one floating type (bf16, fp16, fp32, fp64) on one device. Try: .to()."
            )
        if self.kernel and v.shape[0] % math.prod(self.kernel):
            raise LayerError(
                f"Making a convolution's factor pair: the input width {v.shape[0]} is no multiple of "
                f"the kernel {self.kernel}. Expected in_channels * {math.prod(self.kernel)}."
            )

    @property
    def n(self) -> int:
        """Output width."""
        return self.u.shape[0]

    @property
    def m(self) -> int:
        """Input width (for a convolution: in_channels times the kernel's size)."""
        return self.v.shape[0]

    @property
    def rank(self) -> int:
        """Number of columns r; the update's true rank may be lower."""
        return self.u.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m), the shape of the update."""
        return self.n, self.m

    @property
    def dtype(self) -> torch.dtype:
        """Type of both factors."""
        return self.u.dtype

    @property
    def device(self) -> torch.device:
        """Device of both factors."""
        return self.u.device

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """u and v."""
        return self.u, self.v

    @property
    def nbytes(self) -> int:
        """Bytes that the two factors take."""
        return self.u.nbytes + self.v.nbytes

    @property
    def parameter_count(self) -> int:
        """Number of values in the two factors."""
        return self.u.numel() + self.v.numel()

    def to(
        self, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> "LowRank":
        """The same pair in another type or on another device."""
        return replace(
            self,
            u=self.u.to(device=device, dtype=dtype),
            v=self.v.to(device=device, dtype=dtype),
        )

    def norm(self) -> Tensor:
        """Frobenius norm of the update, 0-d."""
        # clamp: rounding can leave a tiny negative square for an update that cancels to zero
        square = gram_trace(self, self).clamp(min=0)
        return square.sqrt().to(self._result_dtype)

    def trace(self, other: Update) -> Tensor:
        """Frobenius inner product of the two updates in float64, 0-d. Raises LayerError as `inner`."""
        return gram_trace(self, other) if isinstance(other, LowRank) else other.trace(self)

    def inner(self, other: Update) -> Tensor:
        """Frobenius inner product of the two updates, 0-d. Raises LayerError if their shapes differ."""
        return self.trace(other).to(self._result_dtype)

    def cosine(self, other: Update) -> Tensor:
        """Cosine of the angle between the two updates, 0-d; 0 if either is zero."""
        square = self.trace(self).clamp(min=0) * other.trace(other).clamp(min=0)
        cosine = self.trace(other) / square.sqrt()
        return torch.where(square > 0, cosine, 0.0).to(self._result_dtype)

    def singular_values(self) -> Tensor:
        """The min(r, n, m) largest singular values of the update, descending."""
        core, _, _ = self._core()
        return torch.linalg.svdvals(core)

    def effective_rank(self) -> Tensor:
        """exp of the entropy of the normalised singular values (Roy and Vetterli 2007), 0-d.

        Between 0 (zero update) and r; an update with k equal singular values has k.
        """
        values = self.singular_values()
        total = values.sum()
        if not total > 0:
            return torch.zeros((), dtype=values.dtype, device=values.device)
        return torch.special.entr(values / total).sum().exp()

    def matvec(self, x: Tensor) -> Tensor:  # (..., m) -> (..., n)
        """Apply the update to vectors: x -> x (u v^T)^T."""
        return x @ self.v @ self.u.T

    def rmatvec(self, y: Tensor) -> Tensor:  # (..., n) -> (..., m)
        """Apply the transposed update to vectors: y -> y (u v^T)."""
        return y @ self.u @ self.v.T

    def truncate(self, rank: int) -> "Truncated":
        """The best approximation of the update at a rank (Eckart-Young), balanced between u and v.

        Returns the pair and the kept energy, the share of the squared norm that remains (1 for a zero update).
        """
        if rank < 0:
            raise LayerError(f"Truncating a factor pair: found rank {rank}, expected 0 or more.")
        core, q_u, q_v = self._core()
        left, values, right_t = torch.linalg.svd(core, full_matrices=False)
        energy = values.double().square()
        total = float(energy.sum())
        kept = float(energy[:rank].sum()) / total if total > 0 else 1.0
        root = values[:rank].sqrt()
        u = q_u @ (left[:, :rank] * root)
        v = q_v @ (right_t[:rank].T * root)
        return Truncated(replace(self, u=u.to(self.dtype), v=v.to(self.dtype)), kept)

    def to_low_rank(self) -> "LowRank":
        """Itself: the step by which updates of every kind become pairs."""
        return self

    def narrow(self) -> "LowRank":
        """The same update on at most min(n, m) columns, by QR of the factor on the shorter side.

        A pair that has no more is itself; else half precision becomes float32.
        """
        if self.rank <= min(self.shape):
            return self
        wide = self._result_dtype
        if self.n <= self.m:
            q, r = torch.linalg.qr(self.u.to(wide))
            return replace(self, u=q, v=self.v.to(wide) @ r.T)
        q, r = torch.linalg.qr(self.v.to(wide))
        return replace(self, u=self.u.to(wide) @ r.T, v=q)

    def pad(self, rank: int) -> "LowRank":
        """The same update with zero columns up to a rank. Raises LayerError below the present rank."""
        if rank < self.rank:
            raise LayerError(
                f"Padding a factor pair of rank {self.rank} to {rank}: expected at least {self.rank}. "
                "Try: truncate(), which says how much is lost."
            )
        extra = rank - self.rank
        return replace(
            self,
            u=torch.nn.functional.pad(self.u, (0, extra)),
            v=torch.nn.functional.pad(self.v, (0, extra)),
        )

    def dense(self) -> Tensor:  # (n, m)
        """The update itself: the one step that costs n m memory."""
        return self.u @ self.v.T

    def dense_weight(self) -> Tensor:  # (n, m) or (n, in, *kernel)
        """The update in the shape of the layer's weight."""
        if not self.kernel:
            return self.dense()
        return self.dense().reshape(self.n, self.m // math.prod(self.kernel), *self.kernel)

    def __add__(self, other: Update) -> "LowRank":
        """The sum of two updates: the columns side by side, rank r + r'."""
        if self.shape != other.shape or self.kernel != other.kernel:
            raise LayerError(
                f"Adding two updates: found {self!r} and {other!r}, expected the same n, m and kernel. "
                "Try: add LoRAs of the same base."
            )
        pair = other.to_low_rank()
        return replace(
            self, u=torch.cat([self.u, pair.u], dim=1), v=torch.cat([self.v, pair.v], dim=1)
        )

    def __mul__(self, factor: float) -> "LowRank":
        """The update times a number, put into u."""
        return replace(self, u=self.u * factor)

    __rmul__ = __mul__

    def __repr__(self) -> str:
        kernel = f", kernel={self.kernel}" if self.kernel else ""
        return f"LowRank(n={self.n}, m={self.m}, r={self.rank}{kernel}, {self.dtype})"

    @property
    def _result_dtype(self) -> torch.dtype:
        return torch.promote_types(self.dtype, torch.float32)

    def _core(self) -> tuple[Tensor, Tensor, Tensor]:
        """R_u R_v^T (p, q) with the orthonormal Q_u (n, p), Q_v (m, q): the update is Q_u core Q_v^T."""
        u, v = self.u.to(self._result_dtype), self.v.to(self._result_dtype)
        q_u, r_u = torch.linalg.qr(u)
        q_v, r_v = torch.linalg.qr(v)
        return r_u @ r_v.T, q_u, q_v


class Truncated(NamedTuple):
    """A truncated pair and the share of the squared norm that it keeps."""

    pair: LowRank
    kept_energy: float


def gram_trace(a: LowRank, b: LowRank) -> Tensor:
    """<u v^T, s t^T> = sum((u^T s) * (v^T t)) in float64, 0-d. Raises LayerError if the shapes differ."""
    check_alike(a, b)
    left = a.u.double().T @ b.u.double()
    right = a.v.double().T @ b.v.double()
    return (left * right).sum()
