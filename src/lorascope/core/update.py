"""`Update`: what every kind of layer of a LoRA offers, whatever it is made of.

    LowRank      u v^T                    the pair, which models read
    Kronecker    kron(w1, w2)             LoKr; of rank r1 r2, which can be as high as the matrix is wide
    Hadamard     (a1 b1) * (a2 b2)        LoHa; of rank r1 r2

The algebra works on the factors as they are: norms, inner products, also between kinds, and spectra take no
memory that grows with the update. `to_low_rank()` is the one named step to a pair, exact, taken layer by
layer by what needs pairs (`collate`, gauges, shards), and refused above MAX_VALUES.
"""

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from lorascope.errors import LayerError

if TYPE_CHECKING:
    from lorascope.core.low_rank import LowRank, Truncated

__all__ = ["MAX_VALUES", "Update", "check_alike", "check_room"]

MAX_VALUES = 1 << 28  # of a pair or a matrix that a layer is expanded to: 1 GiB in float32


class Update(Protocol):
    """The update of one layer: an immutable value."""

    @property
    def n(self) -> int:
        """Output width."""

    @property
    def m(self) -> int:
        """Input width (for a convolution: in_channels times the kernel's size)."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m), the shape of the update."""

    @property
    def rank(self) -> int:
        """Number of columns of its pair; the update's true rank may be lower."""

    @property
    def kernel(self) -> tuple[int, ...]:
        """Spatial shape of a convolution's kernel, () for a matrix."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of all factors."""

    @property
    def device(self) -> torch.device:
        """Device of all factors."""

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """All tensors that it is made of."""

    @property
    def nbytes(self) -> int:
        """Bytes that the factors take."""

    @property
    def parameter_count(self) -> int:
        """Number of values in the factors."""

    def to(
        self, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> "Update":
        """The same factors in another type or on another device."""

    def norm(self) -> Tensor:
        """Frobenius norm of the update, 0-d."""

    def trace(self, other: "Update") -> Tensor:
        """Frobenius inner product in float64, 0-d. Raises LayerError if the shapes differ."""

    def inner(self, other: "Update") -> Tensor:
        """Frobenius inner product, 0-d. Raises LayerError if the shapes differ."""

    def cosine(self, other: "Update") -> Tensor:
        """Cosine of the angle between the two updates, 0-d; 0 if either is zero."""

    def singular_values(self) -> Tensor:
        """The singular values of the update, descending, as many as its rank (or n, or m)."""

    def effective_rank(self) -> Tensor:
        """exp of the entropy of the normalised singular values, 0-d."""

    def matvec(self, x: Tensor) -> Tensor:  # (..., m) -> (..., n)
        """Apply the update to vectors."""

    def truncate(self, rank: int) -> "Truncated":
        """The best pair at a rank, and the share of the squared norm that it keeps."""

    def to_low_rank(self) -> "LowRank":
        """The update as a pair, exactly. Raises LayerError where that would not fit into memory."""

    def dense(self) -> Tensor:  # (n, m)
        """The update itself."""

    def dense_weight(self) -> Tensor:  # (n, m) or (n, in, *kernel)
        """The update in the shape of the layer's weight."""

    def __add__(self, other: "Update") -> "LowRank":
        """The sum of two updates, as a pair."""

    def __mul__(self, factor: float) -> "Update":
        """The update times a number."""

    def __rmul__(self, factor: float) -> "Update":
        """The update times a number."""


def check_alike(a: Update, b: Update) -> None:
    """Raises LayerError if two updates are not of one shape."""
    if a.shape != b.shape or a.kernel != b.kernel:
        raise LayerError(
            f"Taking an inner product: found {a!r} and {b!r}, expected the same n, m and kernel. "
            "Try: compare layers of the same name in LoRAs of the same base."
        )


def check_room(update: Update, count: int) -> None:
    """Raises LayerError if an update would be expanded to more values than MAX_VALUES."""
    if count > MAX_VALUES:
        raise LayerError(
            f"Expanding {update!r}: it would hold {count} values, expected at most {MAX_VALUES}. "
            "Try: truncate(rank), or norms, inner products and spectra, which need no expansion."
        )
