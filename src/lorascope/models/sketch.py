"""A fixed bilinear sketch of the updates with a linear model: directions at a cost that does not grow.

    z_l = P_l (dW_l / |dW_l|) Q_l^T = (P_l u_l) (Q_l v_l)^T / |dW_l|       (s, s)

P and Q are drawn once from a Gaussian and never trained. Inner products of sketches are those of the updates up
to noise of 1 / s, so that ridge regression on them is `kernel_cosine` approximated with s^2 numbers a layer
and no training LoRA kept. No dense update is formed.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from lorascope.core.batch import GroupBatch, LoRABatch
from lorascope.core.gram import layer_norms
from lorascope.core.signature import Signature
from lorascope.models.closed_form import ChooseBy
from lorascope.models.linear_model import LinearModel
from lorascope.models.spectra import Sizes
from lorascope.models.standardise import Standardise
from lorascope.symmetry.invariants import projected_products

__all__ = ["Sketch", "SketchNumbers"]


class SketchNumbers(nn.Module):
    """Standardised sketches of all layers, each layer of total variance 1, and standardised sizes beside.

    `unit_norm` sketches dW / |dW|; without it dW itself. Under g: unchanged, as u v^T is.
    Width: L s^2, plus L (q + 1) + 1 sizes with `unit_norm`. A missing layer is 0.
    """

    def __init__(
        self, signature: Signature, *, size: int, rank: int, unit_norm: bool, draw: int
    ) -> None:
        super().__init__()
        self.size, self.unit_norm = size, unit_norm
        generator = torch.Generator().manual_seed(draw)
        for index, group in enumerate(signature.groups()):
            for name, width in (("left", group.n), ("right", group.m)):
                gauss = torch.randn(len(group), width, size, generator=generator)
                self.register_buffer(f"{name}_{index}", gauss / size**0.5)
        sketched = len(signature) * size**2
        self.standardise = Standardise(sketched)
        self.width = sketched
        if unit_norm:
            self.sizes = Sizes(signature, values=rank)
            self.width += self.sizes.width

    def fit(self, batch: LoRABatch) -> None:
        """Stores means and deviations of the training LoRAs."""
        self.standardise.fit(self.sketch(batch), self._there(batch))
        if self.unit_norm:
            self.sizes.fit(batch)

    def forward(self, batch: LoRABatch) -> Tensor:  # (b, width)
        """Sketches, and sizes."""
        z = self.standardise(self.sketch(batch)) / self.size
        z = torch.where(self._there(batch), z, 0.0)
        return torch.cat([z, self.sizes(batch)], dim=1) if self.unit_norm else z

    def sketch(self, batch: LoRABatch) -> Tensor:  # (b, L s s)
        """P dW Q^T of every layer in signature order, not standardised."""
        batch = batch.to(dtype=self.get_buffer("left_0").dtype)
        groups = unit_norm(batch).groups if self.unit_norm else batch.groups
        sides = [
            [self.get_buffer(f"{side}_{index}") for index in range(len(groups))]
            for side in ("left", "right")
        ]
        return projected_products(groups, *sides)[:, batch.layer_order].flatten(1)

    def _there(self, batch: LoRABatch) -> Tensor:  # (b, L s s) bool
        return batch.present.unsqueeze(2).expand(-1, -1, self.size**2).flatten(1)


def unit_norm(batch: LoRABatch) -> LoRABatch:
    """The batch with every layer's update at Frobenius norm 1, where it is not zero."""
    groups = []
    for group, norm in zip(batch.groups, layer_norms(batch), strict=True):
        inverse = torch.where(norm > 0, norm.reciprocal(), 0.0)
        groups.append(GroupBatch(group.u * inverse[..., None, None], group.v))
    return batch.with_groups(groups)


class Sketch(LinearModel):
    """Ridge (values) or logistic (labels, classes) regression on a fixed random sketch of every update.

    Source: random bilinear features of a matrix (Johnson-Lindenstrauss on both sides; baselines of the
    field, "fixed bilinear sketch"). By default directions and sizes are separate facts, as in `gl_net`.
    Equation: w^T [standardise(P_l dW_l Q_l^T / |dW_l|) / s for all l; standardise(log s, log norms)] + c.
    Under g: unchanged, since (u g)(v g^-T)^T = u v^T. Symmetry: GL(r).
    Numbers learned: (L s^2 + L (q + 1) + 2) k, beside fixed matrices of s sum (n + m) numbers.
    `draw` seeds the fixed matrices, which are saved.
    Cost: O(s r (n + m) + s^2 r) per layer, whatever the number of training LoRAs. Any rank; missing layers
    are zero sketches, the training mean.
    """

    name: ClassVar[str] = "sketch"

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        size: int = 16,
        unit_norm: bool = True,
        draw: int = 0,
        choose_by: ChooseBy = "left_out",
    ) -> None:
        numbers = SketchNumbers(signature, size=size, rank=rank, unit_norm=unit_norm, draw=draw)
        super().__init__(
            signature,
            out_features,
            rank=rank,
            choose_by=choose_by,
            numbers=numbers,
            options={"size": size, "unit_norm": unit_norm, "draw": draw},
        )
