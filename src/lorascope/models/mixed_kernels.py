"""Kernels between training LoRAs that can be mixed, solved by ridge regression, and added up into one map.

    linear       x . x'                             of numbers that a LoRA is seen by
    even         the same of the first numbers, each divided by the root of its usual size
    landmarked   k(x, .) (K + jitter)^-1 k(., x')   of similarities to M landmarks (Nystroem)

All of them are linear in finitely many numbers of a LoRA, so that any sum of them, solved for any label, is
one weight for each number: `weights`. Each is in units of its own mean variance over the training LoRAs, and
a mixture is name -> weight in these units. What it is not: a model; `fusion` is one on these.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["EVEN", "Kernels", "Mixture", "share"]

Mixture = Mapping[str, float]

EVEN = "even"
LEAST_SIZE = 1e-2  # of an entry against the mean: what hardly ever occurs must not speak loudest
JITTER = 1e-3  # of a landmark's own similarity: keeps the weights of near landmarks from cancelling


class Kernels:
    """The kernels between some training LoRAs.

    Args:
        linear: name -> numbers (b, F).
        landmarked: name -> similarities (b, M) to landmarks.
        among: name -> similarities (M, M) of the landmarks.
        grams: name -> (b, b) of linear kernels that are known already.
        even: which of the linear ones to even out too, under the name "even".

    Example:
        >>> x = torch.tensor([[1.0], [-1.0]])
        >>> Kernels({"x": x}, {}, {}).mixed({"x": 2.0}).tolist()
        [[2.0, -2.0], [-2.0, 2.0]]
    """

    def __init__(
        self,
        linear: Mapping[str, Tensor],
        landmarked: Mapping[str, Tensor],
        among: Mapping[str, Tensor],
        *,
        grams: Mapping[str, Tensor] | None = None,
        even: str | None = None,
    ) -> None:
        self.linear, self.landmarked, self.evened = linear, landmarked, even
        self.solved = {
            name: _solve(among[name].double(), x.double().T) for name, x in landmarked.items()
        }
        kernels = dict(grams or {})
        if even is not None:
            self.evening = _evening(linear[even])
            x = linear[even] * self.evening
            kernels[EVEN] = (x @ x.T).double()
        kernels |= {k: (x @ x.T).double() for k, x in linear.items() if k not in kernels}
        kernels |= {k: x.double() @ self.solved[k] for k, x in landmarked.items()}
        self.units = {name: _variance(kernel) for name, kernel in kernels.items()}
        self.kernels = {name: kernel / self.units[name] for name, kernel in kernels.items()}

    def mixed(self, mixture: Mixture) -> Tensor:  # (b, b)
        """The weighted sum of some kernels."""
        first, *others = mixture.items()
        total = first[1] * self.kernels[first[0]]
        for name, weight in others:
            total.add_(self.kernels[name], alpha=weight)
        return (total + total.T) / 2

    def weights(self, duals: Mapping[str, Tensor]) -> dict[str, Tensor]:  # (F, k) or (M, k) each
        """The weights of all numbers that say what a dual (b, k) for each kernel says."""
        found = {}
        for name, x in self.linear.items():
            found[name] = x.T @ (duals[name] / self.units[name]).to(x.dtype)
        for name, solved in self.solved.items():
            found[name] = solved @ (duals[name] / self.units[name])
        if self.evened is not None:
            x = self.linear[self.evened] * self.evening
            dual = (duals[EVEN] / self.units[EVEN]).to(x.dtype)
            found[self.evened] = found[self.evened] + self.evening.unsqueeze(1) * (x.T @ dual)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """The kernels that there are."""
        return tuple(self.kernels)


def share(kernels: Kernels, mixtures: Mapping[str, Mixture], duals: Tensor) -> dict[str, Tensor]:
    """What all mixtures together say through each kernel: duals (s, b, k) of mixtures -> (b, k) of kernels."""
    found = {}
    for name in kernels.names:
        weights = [mixture.get(name, 0.0) for mixture in mixtures.values()]
        found[name] = torch.tensordot(duals.new_tensor(weights), duals, 1)
    return found


def _evening(x: Tensor) -> Tensor:  # (b, F) -> (F,)
    """1 / root of each number's usual size, against that of all."""
    usual = x.square().mean(0).sqrt()
    typical = usual.square().mean().sqrt().clamp(min=torch.finfo(usual.dtype).tiny)
    return (usual / typical).clamp(min=LEAST_SIZE).rsqrt()


def _solve(among: Tensor, beside: Tensor) -> Tensor:  # (M, M), (M, b) -> (M, b)
    """(K + jitter)^-1 k."""
    size = among.diagonal().mean().clamp(min=1e-30)
    eye = torch.eye(len(among), dtype=among.dtype, device=among.device)
    return torch.cholesky_solve(beside, torch.linalg.cholesky(among + JITTER * size * eye))


def _variance(kernel: Tensor) -> float:
    """Mean squared distance from the mean in the kernel's space; 1 for a constant."""
    size = float(kernel.diagonal().mean())
    variance = size - float(kernel.mean())
    return variance if variance > 1e-9 * size else 1.0
