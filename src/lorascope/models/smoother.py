"""Ridge regression in closed form, with every left-out prediction at the price of one.

    f(x) = a^T k(x) + c,   (K_c + t I) a = y - mean(y),   K_c = C K C the centred kernel

With K_c = q diag(e) q^T, the fitted values are S y with S = 1 1^T / N + q diag(e / (e + t)) q^T, and a
prediction for LoRA i by a model that never saw it is y_i - (y_i - (S y)_i) / (1 - S_ii); for a group G
left out together it is y_G - (1 - S_GG)^{-1} (y - S y)_G. Both are exact for a fixed kernel, so the
strength t is chosen without refitting (Golub, Heath and Wahba 1979; Rifkin and Lippert 2007). What it is
not: a model; it knows numbers only. All in float64.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Choice", "Smoother"]

# relative to the mean eigenvalue: from near interpolation to near the mean. Weaker ones would let the
# rounding of a float32 kernel speak.
STRENGTHS = torch.logspace(-5, 4, 28, dtype=torch.float64)


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
        size = float(self.column_means.abs().max())
        return max(float(self.values.mean()), 1e-9 * size) or 1.0

    @cached_property
    def shares(self) -> Tensor:  # (b, b)
        """How much of each LoRA lies along each eigenvector."""
        return self.vectors.square()

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
        choices = [self.leave_out(y, t) for t in (STRENGTHS * self.scale).tolist()]
        if held_out is not None:
            choices = [self._on(*held_out, y, choice) for choice in choices]
        return min(choices, key=lambda choice: choice.error)

    def choose_each(self, y: Tensor) -> tuple[Tensor, Tensor]:  # (b, k) -> (k,), (b, k)
        """A strength for each column, and the predictions that they have on LoRAs left out."""
        strengths = STRENGTHS * self.scale
        choices = [self.leave_out(y, t) for t in strengths.tolist()]
        errors = torch.stack([(y - choice.left_out).square().mean(0) for choice in choices])
        best = errors.argmin(0)
        columns = [choices[place].left_out[:, k] for k, place in enumerate(best.tolist())]
        return strengths.to(y.device)[best], torch.stack(columns, 1)

    def leave_out(self, y: Tensor, strength: float) -> Choice:
        """Predictions of each LoRA by the model fitted to all others (all other groups)."""
        shrink = self.values / (self.values + strength)
        residual = y - self._smooth(y, shrink)
        # 1 - S_ii is never negative; where a LoRA decides its own value nothing can be said of it
        own = 1 - 1 / self.size - self.shares @ shrink
        error = residual / own.clamp(min=1e-12).unsqueeze(1)
        for rows in self.blocks:
            q = self.vectors[rows]  # (g, s, b)
            eye = torch.eye(rows.shape[1], dtype=y.dtype, device=y.device)
            rest = eye - 1 / self.size - (q * shrink) @ q.mT
            error[rows] = torch.linalg.pinv(rest, hermitian=True) @ residual[rows]
        return Choice(strength, float(error.square().mean()), y - error)

    def solve(self, y: Tensor, strength: float | Tensor) -> tuple[Tensor, Tensor]:  # (b, k), (k,)
        """Dual weights a and intercept c at a strength, or at one (k,) for each column."""
        mean = y.mean(0)
        weights = self.vectors @ (
            (self.vectors.T @ (y - mean)) / (self.values.unsqueeze(1) + strength)
        )
        # their sum is zero but for rounding, which a kernel with a large mean would magnify
        weights = weights - weights.mean(0)
        return weights, mean - self.column_means @ weights

    def _smooth(self, y: Tensor, shrink: Tensor) -> Tensor:
        mean = y.mean(0)
        shrunk: Tensor = self.vectors @ (shrink.unsqueeze(1) * (self.vectors.T @ (y - mean)))
        return mean + shrunk

    def _on(self, kernel: Tensor, truth: Tensor, y: Tensor, choice: Choice) -> Choice:
        dual, intercept = self.solve(y, choice.strength)
        error = kernel.double() @ dual + intercept - truth
        return replace(choice, error=float(error.square().mean()))
