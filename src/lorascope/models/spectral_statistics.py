"""Five statistics of each layer's spectrum with a linear model: the published static screen for backdoors.

    log s_1,  log |dW|_F,  energy s_1^2 / |dW|_F^2,  entropy of p_k = s_k^2 / |dW|_F^2,  kurtosis of s

It says how large and how concentrated an update is, and nothing of what it points at.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.models.closed_form import ChooseBy
from lorascope.models.linear_model import LinearModel
from lorascope.models.spectra import TYPICAL_FLOOR
from lorascope.models.standardise import Standardise
from lorascope.symmetry.invariants import spectra

__all__ = ["SpectralStatistics", "Statistics", "layer_statistics"]

STATISTICS = 5


def layer_statistics(s: Tensor, count: Tensor, floor: Tensor) -> Tensor:
    """The five statistics of spectra, (b, l, 5).

    Args:
        s: (b, l, r) singular values, zeros beyond the rank.
        count: (l,) how many singular values a layer has, min(n, m): the kurtosis is over all of them, so
            that columns of zeros change nothing. It is 0 for an update of zero.
        floor: (l,) below which sizes are not told apart by their logarithms.

    Example:
        >>> layer_statistics(torch.tensor([[[3.0, 4.0]]]), torch.tensor([2]), torch.zeros(1))[0, 0, 1].exp()
        tensor(5.)
    """
    square = s.square().sum(-1)  # (b, l)
    log_floor = floor.square()
    share = s.square() / torch.where(square > 0, square, 1.0).unsqueeze(-1)
    mean = s.sum(-1) / count
    # negative where the rank is above the layer: padding is taken out again
    zeros = count - s.shape[-1]
    centred = s - mean.unsqueeze(-1)
    second = (centred.square().sum(-1) + zeros * mean.square()) / count
    fourth = (centred.pow(4).sum(-1) + zeros * mean.pow(4)) / count
    varies = second > 1e-12 * mean.square()
    kurtosis = torch.where(varies, fourth / torch.where(varies, second, 1.0).square(), 0.0)
    parts = (
        0.5 * (s.amax(-1).square() + log_floor).log(),
        0.5 * (square + log_floor).log(),
        share.amax(-1),
        torch.special.entr(share).sum(-1),
        kurtosis,
    )
    return torch.stack(parts, dim=-1)


class Statistics(nn.Module):
    """The five statistics of all layers, standardised and cut at 4 deviations; 0 of a missing layer.

    Under g: unchanged, since singular values belong to u v^T. Width: 5 layers.
    """

    count: Tensor
    floor: Tensor

    def __init__(self, signature: Signature) -> None:
        super().__init__()
        self.width = STATISTICS * len(signature)
        smaller = [min(layer.n, layer.m) for layer in signature.layers]
        self.register_buffer("count", torch.tensor(smaller, dtype=torch.float32), persistent=False)
        self.register_buffer("floor", torch.full((len(signature),), 1e-12))
        self.standardise = Standardise(self.width)

    def fit(self, batch: LoRABatch) -> None:
        """Stores floors, means and deviations of the training LoRAs."""
        if batch.size == 0:
            return
        norms = self._spectra(batch).norm(dim=2)
        typical = torch.where(norms > 0, norms, torch.nan).nanmedian(0).values
        self.floor.copy_(TYPICAL_FLOOR * typical.nan_to_num(1e-9))
        self.standardise.fit(self._raw(batch), self._there(batch))

    def forward(self, batch: LoRABatch) -> Tensor:  # (b, width)
        """The standardised statistics."""
        return torch.where(self._there(batch), self.standardise.cut(self._raw(batch)), 0.0)

    def _raw(self, batch: LoRABatch) -> Tensor:  # (b, width)
        return layer_statistics(self._spectra(batch), self.count, self.floor).flatten(1)

    def _spectra(self, batch: LoRABatch) -> Tensor:  # (b, l, r)
        s = spectra(batch.to(dtype=self.floor.dtype)).to(self.floor.dtype)
        return s if s.shape[2] else torch.nn.functional.pad(s, (0, 1))

    def _there(self, batch: LoRABatch) -> Tensor:  # (b, width) bool
        return batch.present.unsqueeze(2).expand(-1, -1, STATISTICS).flatten(1)


class SpectralStatistics(LinearModel):
    """Logistic (labels, classes) or ridge (values) regression on five spectral statistics a layer.

    Source: arXiv 2602.15195, which reads the four attention projections and takes the leading singular
    value, Frobenius norm, energy concentration, entropy and kurtosis of the update; here sizes enter as
    logarithms and all layers are read. The published text that was at hand does not say what the kurtosis
    is of; here it is that of the singular values.
    Equation: w^T standardise(log s_1, log |dW|, s_1^2 / |dW|^2, -sum p log p, kurtosis for all l) + c.
    Under g: unchanged, since singular values belong to the product. Symmetry: GL(r).
    Numbers learned: (5 L + 1) k, beside 11 L statistics.
    Cost: O((n + m) r^2) per layer. Any rank. A missing layer is taken at the training mean.
    """

    name: ClassVar[str] = "spectral_statistics"

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        choose_by: ChooseBy = "left_out",
    ) -> None:
        super().__init__(
            signature,
            out_features,
            rank=rank,
            choose_by=choose_by,
            numbers=Statistics(signature),
        )
