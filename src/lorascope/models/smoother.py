"""Ridge regression in closed form, with every left-out prediction at the price of one.

    f(x) = a^T k(x) + c,   (K_c + t I) a = y - mean(y),   K_c = C K C the centred kernel

With K_c = q diag(e) q^T, the fitted values are S y with S = 1 1^T / N + q diag(e / (e + t)) q^T, and a
prediction for LoRA i by a model that never saw it is y_i - (y_i - (S y)_i) / (1 - S_ii); for a group G
left out together it is y_G - (1 - S_GG)^{-1} (y - S y)_G. Both are exact for a fixed kernel, so the
strength t is chosen without refitting (Golub, Heath and Wahba 1979; Rifkin and Lippert 2007). What it is
not: a model; it knows numbers only. All in float64.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Choice", "Smoother"]

# relative to the mean eigenvalue: from near interpolation to near the mean. Weaker ones would let the
# rounding of a float32 kernel speak.
STRENGTHS = torch.logspace(-5, 4, 28, dtype=torch.float64)
FEW = 16  # LoRAs of a group that are compared pair by pair


@dataclass(frozen=True, eq=False)
class Choice:
    """A strength with the mean squared error and the predictions it has on left-out LoRAs."""

    strength: float
    error: float
    left_out: Tensor  # (b, k)


class Smoother:
    """The ridge solutions of one training kernel for all strengths.

    Args:
        kernel: (b, b) symmetric positive semi-definite.
        groups: (b,) int64, LoRAs to leave out together; each alone by default.

    Example:
        >>> x = torch.linspace(-1, 1, 20, dtype=torch.float64).unsqueeze(1)
        >>> smoother = Smoother(x @ x.T)
        >>> round(smoother.choose(3 * x).error, 6)
        0.0
    """

    def __init__(self, kernel: Tensor, groups: Tensor | None = None) -> None:
        kernel = kernel.double()
        self.size = kernel.shape[0]
        self.column_means = kernel.mean(0)
        row = kernel - self.column_means
        values, vectors = torch.linalg.eigh(row - row.mean(1, keepdim=True))
        self.values: Tensor = values.clamp(min=0)
        self.vectors: Tensor = vectors
        self.groups = groups

    @cached_property
    def scale(self) -> float:
        """The mean eigenvalue, which strengths are relative to; of a constant kernel, its size."""
        size, mean = float(self.column_means.abs().max()), float(self.values.mean())
        # below is what rounding leaves of a constant: how much depends on the processor
        return mean if mean > 1e-9 * size else size or 1.0

    @cached_property
    def blocks(self) -> list[Tensor]:  # (g, s) each
        """The rows of each group of more than one LoRA, groups of one size together."""
        if self.groups is None:
            return []
        _, index, counts = torch.unique(self.groups, return_inverse=True, return_counts=True)
        order = torch.split(index.argsort(stable=True), counts.tolist())
        sizes = sorted({len(rows) for rows in order} - {1})
        return [torch.stack([rows for rows in order if len(rows) == size]) for size in sizes]

    def choose(
        self,
        y: Tensor,  # (b, k)
        held_out: tuple[Tensor, Tensor] | None = None,  # (B, b), (B, k)
    ) -> Choice:
        """The strength of least squared error on LoRAs left out, one for all columns.

        With `held_out`, the kernel between other LoRAs and these and their y, the error is on those.
        """
        left_out = self._left_out(y, self._grid)
        errors = (left_out - y).square().mean((1, 2)).tolist()
        strengths = self._grid.strengths.tolist()
        if held_out is not None:
            errors = [self._error_on(*held_out, y, strength) for strength in strengths]
        best = errors.index(min(errors))
        return Choice(strengths[best], errors[best], left_out[best])

    def choose_each(self, y: Tensor) -> tuple[Tensor, Tensor]:  # (b, k) -> (k,), (b, k)
        """A strength for each column, and the predictions that they have on LoRAs left out."""
        left_out = self._left_out(y, self._grid)
        best = (left_out - y).square().mean(1).argmin(0)
        columns = torch.arange(y.shape[1], device=y.device)
        return self._grid.strengths[best], left_out[best, :, columns].T.contiguous()

    def leave_out(self, y: Tensor, strength: float) -> Choice:
        """Predictions of each LoRA by the model fitted to all others (all other groups)."""
        found = self._left_out(y, self._leverage(y.new_tensor([strength])))[0]
        return Choice(strength, float((y - found).square().mean()), found)

    @cached_property
    def _grid(self) -> "_Leverage":
        """What LoRAs and groups weigh in their own fit, at all strengths: labels do not matter to it."""
        return self._leverage((STRENGTHS * self.scale).to(self.values.device))

    def _leverage(self, strengths: Tensor) -> "_Leverage":
        shrink = self.values / (self.values + strengths.unsqueeze(1))  # (t, b)
        own = 1 - 1 / self.size - shrink @ self.vectors.square().T
        inverses = []
        for rows in self.blocks:
            eye = torch.eye(rows.shape[1], dtype=shrink.dtype, device=shrink.device)
            rest = eye - 1 / self.size - self._among(rows, shrink)
            inverses.append(torch.linalg.pinv(rest, hermitian=True))
        # 1 - S_ii is never negative; where a LoRA decides its own value nothing can be said of it
        return _Leverage(strengths, shrink, own.clamp(min=1e-12), inverses)

    def _among(self, rows: Tensor, shrink: Tensor) -> Tensor:  # (g, s), (t, b) -> (t, g, s, s)
        """S - 1 / N between the LoRAs of each group."""
        q = self.vectors[rows]  # (g, s, b)
        groups, size, _ = q.shape
        if size > FEW:
            return torch.stack([(q * weights) @ q.mT for weights in shrink])
        # one product for all strengths: the vectors are read once
        i, j = torch.triu_indices(size, size, device=q.device)
        found = shrink.new_zeros(len(shrink), groups, size, size)
        for one, other in zip(i.tolist(), j.tolist(), strict=True):
            found[:, :, one, other] = shrink @ (q[:, one] * q[:, other]).T
            found[:, :, other, one] = found[:, :, one, other]
        return found

    def _left_out(self, y: Tensor, at: "_Leverage") -> Tensor:  # (b, k) -> (t, b, k)
        mean = y.mean(0)
        inside = at.shrink.unsqueeze(2) * (self.vectors.T @ (y - mean))  # (t, b, k)
        smooth = self.vectors @ inside.transpose(0, 1).flatten(1)
        residual = y - mean - smooth.view(len(y), -1, y.shape[1]).transpose(0, 1)
        error = residual / at.own.unsqueeze(2)
        for rows, inverse in zip(self.blocks, at.inverses, strict=True):
            error[:, rows] = inverse @ residual[:, rows]
        return y - error

    def solve(self, y: Tensor, strength: float | Tensor) -> tuple[Tensor, Tensor]:  # (b, k), (k,)
        """Dual weights a and intercept c at a strength, or at one (k,) for each column."""
        mean = y.mean(0)
        weights = self.vectors @ (
            (self.vectors.T @ (y - mean)) / (self.values.unsqueeze(1) + strength)
        )
        # their sum is zero but for rounding, which a kernel with a large mean would magnify
        weights = weights - weights.mean(0)
        return weights, mean - self.column_means @ weights

    def _error_on(self, kernel: Tensor, truth: Tensor, y: Tensor, strength: float) -> float:
        dual, intercept = self.solve(y, strength)
        error = kernel.double() @ dual + intercept - truth
        return float(error.square().mean())


class _Leverage(NamedTuple):
    """S at several strengths t, as far as leaving out needs it."""

    strengths: Tensor  # (t,)
    shrink: Tensor  # (t, b): e / (e + t)
    own: Tensor  # (t, b): 1 - S_ii
    inverses: list[Tensor]  # (t, g, s, s) each: (1 - S_GG)^-1 of the groups of each block
