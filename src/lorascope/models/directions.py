"""Rank directions: each update as the set of its singular triples, and learned maps on them.

    u_l v_l^T = sum_k s_k x_k y_k^T,    (x_k, y_k) ~ (-x_k, -y_k)

What `w2t` and `deep_sets` read. The triples are free of weights and of the gauge, up to the joint sign of a
pair, for which `canonical_stacked` has a rule, and up to any rotation among equal singular values, where
they are not determined at all. Not a model.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.models.model import Features
from lorascope.symmetry.canonical import canonical_stacked

__all__ = ["Directions", "LayerMaps", "read_directions"]


class Directions(NamedTuple):
    """Singular triples: one x and one y a shape group, the values in signature order."""

    x: tuple[Tensor, ...]  # (b, l, r, n) each, entries of mean square 1
    y: tuple[Tensor, ...]  # (b, l, r, m) each
    s: Tensor  # (b, L, r), zero where there is no direction

    def pack(self) -> Features:
        """As a model's features: tensors whose first dimension is the batch."""
        return (*self.x, *self.y, self.s)

    @classmethod
    def unpack(cls, features: Features) -> "Directions":
        """From a model's features."""
        assert isinstance(features, tuple)
        tensors = [part for part in features if isinstance(part, Tensor)]
        half = len(tensors) // 2
        return cls(tuple(tensors[:half]), tuple(tensors[half:-1]), tensors[-1])


def read_directions(batch: LoRABatch) -> Directions:
    """The singular triples of every update. Under g: unchanged, up to what the head of this file says."""
    batch = batch if batch.rank else batch.pad(1)
    forms = [canonical_stacked(group.u, group.v) for group in batch.groups]
    return Directions(
        tuple(form.x.transpose(0, 1).contiguous() * form.x.shape[-1] ** 0.5 for form in forms),
        tuple(form.y.transpose(0, 1).contiguous() * form.y.shape[-1] ** 0.5 for form in forms),
        torch.cat([form.s for form in forms])[batch.layer_order].transpose(0, 1).contiguous(),
    )


class LayerMaps(nn.Module):
    """One linear map a layer, without bias: x_k -> W_l x_k for every direction.

    `side` says whether outputs ("n") or inputs ("m") are mapped. L width n numbers are learned.
    """

    order: Tensor

    def __init__(self, signature: Signature, side: str, width: int) -> None:
        super().__init__()
        groups = signature.groups()
        self.weights = nn.ParameterList(
            torch.randn(len(group), getattr(group, side), width) * getattr(group, side) ** -0.5
            for group in groups
        )
        places = torch.tensor([index for group in groups for index in group.indices])
        self.register_buffer("order", places.argsort(), persistent=False)

    def forward(self, x: tuple[Tensor, ...]) -> Tensor:  # (b, l, r, n) each -> (b, L, r, width)
        """The mapped directions, layers in signature order."""
        parts = []
        for part, weight in zip(x, self.weights, strict=True):
            size, layers, rank, _ = part.shape
            mapped = torch.bmm(part.transpose(0, 1).reshape(layers, size * rank, -1), weight)
            parts.append(mapped.view(layers, size, rank, -1))
        return torch.cat(parts)[self.order].transpose(0, 1)
