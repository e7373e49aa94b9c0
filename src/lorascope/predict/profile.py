"""What is looked at to tell whether a LoRA is of the kind that a model was trained on: few numbers a layer.

    facts       log |dW|,  log (sum s^2)^2 / sum s^4,  log s_2 / s_1,
                logit of the shares |p^T dW|^2, |dW q|^2 and |p^T dW q|^2 of |dW|^2
    directions  the leading principal components of p^T dW q / |dW|

with p (n, c) and q (m, c) the leading directions of the training updates' outputs and inputs, and s the
singular values. All of it goes through u^T p, v^T q, u^T u and v^T v: no dense update is formed, the cost of
a LoRA does not grow with the training set, and nothing depends on the gauge. Not a
model, and no judgement: `outlier` judges.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.layers.matmul import batched_matmul
from lorascope.symmetry.invariants import singular_values
from lorascope.symmetry.principal import principal_directions

__all__ = ["FACTS", "Profile", "Seen"]

FACTS = (
    "size of the update",
    "number of directions in use",
    "second singular value against the first",
    "share of the update in the training LoRAs' output directions",
    "share of the update in the training LoRAs' input directions",
    "share of the update in the training LoRAs' directions of both",
)
"""The numbers of a layer, in words."""

SAMPLE = 1024  # LoRAs that the directions are taken from
WIDEST = 12  # directions of a layer, a quarter of its width at most
NUMBERS = 512  # most components of all layers together
FLOOR = 1e-3  # of the largest singular value, and of the layer's median norm
NEAREST = 5e-3  # shares are kept this far from 0 and 1


class Seen(NamedTuple):
    """The numbers of b LoRAs; those of missing layers and singular values are NaN."""

    facts: Tensor  # (b, L, 6)
    directions: Tensor  # (b, L, d)


class Profile(nn.Module):
    """The numbers of every layer, once fitted to training LoRAs.

    Under g: unchanged; each number is a function of u v^T alone.

    Example:
        >>> profile = Profile(batch.signature)
        >>> profile.fit(batch)
        >>> profile(batch).facts.shape == (batch.size, len(batch.signature), len(FACTS))
        True
    """

    def __init__(self, signature: Signature) -> None:
        super().__init__()
        self.signature = signature
        layers = len(signature)
        self.width = max(1, min(WIDEST, NUMBERS // layers))
        self.register_buffer("floor", torch.full((layers,), 1e-12))
        for index, group in enumerate(signature.groups()):
            c, d = max(1, min(WIDEST, group.n // 4)), max(1, min(WIDEST, group.m // 4))
            self.register_buffer(f"p_{index}", torch.zeros(len(group), group.n, c))
            self.register_buffer(f"q_{index}", torch.zeros(len(group), group.m, d))
            self.register_buffer(f"mean_{index}", torch.zeros(len(group), c * d))
            self.register_buffer(f"components_{index}", torch.zeros(len(group), c * d, self.width))

    @torch.no_grad()
    def fit(self, batch: LoRABatch) -> None:
        """Takes directions, components and floors from training LoRAs."""
        batch = batch.select(slice(0, SAMPLE)).to(torch.float32)
        norms = []
        for index, group in enumerate(batch.groups):
            for name, one, other in (("p", group.u, group.v), ("q", group.v, group.u)):
                buffer = self.get_buffer(f"{name}_{index}")
                buffer.copy_(principal_directions(one, other, buffer.shape[2]).mT)
            s = singular_values(group.u, group.v)
            norms.append(s.norm(dim=-1))
            cores, there = self._cores(index, group.u, group.v, norms[-1])
            mean, components = _components(cores, there, self.width)
            self.get_buffer(f"mean_{index}").copy_(mean)
            self.get_buffer(f"components_{index}").copy_(components)
        size = torch.cat(norms)[batch.layer_order]  # (L, b)
        typical = torch.where(size > 0, size, torch.nan).nanmedian(1).values
        self.get_buffer("floor").copy_(FLOOR * typical.nan_to_num(1e-9))

    @torch.no_grad()
    def forward(self, batch: LoRABatch) -> Seen:
        """The numbers of each LoRA's layers, in signature order."""
        batch = batch.to(torch.float32)
        batch = batch if batch.rank else batch.pad(1)
        facts, directions = [], []
        for index, group in enumerate(batch.groups):
            s = singular_values(group.u, group.v)
            size = s.norm(dim=-1)
            cores, _ = self._cores(index, group.u, group.v, size)
            shares = self._shares(index, group.u, group.v, size)
            shares = torch.cat([shares, cores.square().sum(-1, keepdim=True)], -1)
            facts.append(torch.cat([_spectral(s), shares.clamp(NEAREST, 1 - NEAREST).logit()], -1))
            centred = cores - self.get_buffer(f"mean_{index}").unsqueeze(1)
            directions.append(centred @ self.get_buffer(f"components_{index}"))
        found = [torch.cat(x)[batch.layer_order].transpose(0, 1) for x in (facts, directions)]
        floor = self.get_buffer("floor")
        found[0][..., 0] = 0.5 * (found[0][..., 0].square() + floor.square()).log()
        gone = ~batch.present.unsqueeze(-1)
        return Seen(*(x.masked_fill(gone, torch.nan) for x in found))

    def _cores(self, index: int, u: Tensor, v: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """p^T dW q / |dW| of the layers of one shape, (l, b, c d), and which are not zero, (l, b)."""
        x, y = self._project(index, u, v)
        there = size > 0
        inverse = torch.where(there, 1 / size, 0.0)
        return (x.mT @ y * inverse[..., None, None]).flatten(2), there

    def _shares(self, index: int, u: Tensor, v: Tensor, size: Tensor) -> Tensor:  # (l, b, 2)
        """The parts of |dW|^2 that lie in the output and in the input directions."""
        x, y = self._project(index, u, v)
        inverse = torch.where(size > 0, 1 / size.square(), 0.0)
        left = ((v @ v.mT) @ x * x).sum((-1, -2))
        right = ((u @ u.mT) @ y * y).sum((-1, -2))
        return torch.stack([left * inverse, right * inverse], -1)

    def _project(self, index: int, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """u^T p and v^T q, (l, b, r, c)."""
        sides = ((u, self.get_buffer(f"p_{index}")), (v, self.get_buffer(f"q_{index}")))
        x, y = (batched_matmul(a.flatten(1, 2), b).view(*a.shape[:3], -1) for a, b in sides)
        return x, y


def _spectral(s: Tensor) -> Tensor:  # (l, b, r) -> (l, b, 3)
    """The norm as it is; logarithms of the number of directions and of the second value against the first."""
    square = s.square()
    norm = square.sum(-1)
    spread = norm.square() / square.square().sum(-1).clamp(min=torch.finfo(s.dtype).tiny)
    leading = torch.nn.functional.pad(s, (0, max(0, 2 - s.shape[-1])))[..., 1:2]
    ratio = leading / s[..., :1].clamp(min=torch.finfo(s.dtype).tiny)
    log_ratio = torch.where(ratio > FLOOR, ratio.log(), torch.nan)
    return torch.cat([torch.stack([norm.sqrt(), spread.clamp(min=1).log()], -1), log_ratio], -1)


def _components(x: Tensor, there: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean (l, f) and leading principal components (l, f, count) of x (l, b, f), over what is there."""
    weight = there.to(x.dtype).unsqueeze(-1)
    mean = (x * weight).sum(1) / weight.sum(1).clamp(min=1)
    centred = (x - mean.unsqueeze(1)) * weight
    vectors = torch.linalg.eigh(centred.mT @ centred).eigenvectors.flip(-1)[..., :count]
    missing = count - vectors.shape[-1]
    return mean, torch.nn.functional.pad(vectors, (0, missing))
