"""Spectral features: the logarithms of each layer's singular values and norms.

    z = [log s_1 .. log s_q, log |u v^T|_F  for each layer;  log of the total norm]

They say how much an adapter moved and along how many directions, never which. Not a model: `svd`,
`ridge`, `kernel_spectra` and `kernel_product` are models on their standardised form, `Sizes`.
"""

import torch
from torch import Tensor, nn

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.models.standardise import Standardise
from lorascope.symmetry.invariants import spectra
from lorascope.symmetry.roots import Roots

__all__ = ["Sizes", "SpectralFeatures"]

RELATIVE_FLOOR = 1e-4  # of a layer's largest value: 1e-8 of its energy, far above fp32 rounding
TYPICAL_FLOOR = 1e-3  # of the training median in the same place


class SpectralFeatures(nn.Module):
    """Log singular values and log norms of every layer.

    A value s enters as log sqrt(s^2 + (1e-4 s_1)^2 + floor^2), with floor 1e-3 times its training
    median: values lost in rounding, missing layers and lower ranks are finite and change smoothly.
    `values` are kept per layer, the largest first; a higher rank is cut to them, a lower one filled
    with zeros. The norm is that of the whole layer.

    Under g: unchanged, since singular values belong to u v^T. Width: layers (values + 1) + 1.

    Example:
        >>> spectra = SpectralFeatures(batch.signature, values=4)
        >>> spectra.fit(batch)
        >>> spectra(batch).shape[1] == spectra.width
        True
    """

    floor: Tensor

    def __init__(self, signature: Signature, *, values: int, logarithm: bool = True) -> None:
        super().__init__()
        self.values = values
        self.logarithm = logarithm
        self.width = len(signature) * (values + 1) + 1
        self.register_buffer("floor", torch.full((self.width,), 1e-12))

    def fit(self, batch: LoRABatch) -> None:
        """Stores the floors of the training LoRAs."""
        self.fit_values(self.measure(batch))

    def fit_values(self, values: Tensor) -> None:  # (b, l, r)
        """Stores the floors by the singular values of the training LoRAs."""
        raw, _ = self._raw(values)
        if raw.shape[0] == 0:
            return
        positive = torch.where(raw > 0, raw, torch.nan)
        typical = positive.nanmedian(0).values.nan_to_num(1e-9)
        self.floor.copy_(TYPICAL_FLOOR * typical)

    def measure(self, batch: LoRABatch, roots: Roots | None = None) -> Tensor:  # (b, l, r)
        """Singular values of all layers. `roots` are those of the batch, where they are known already.

        Factors of 16 bits are measured as they are, accumulated in float32.
        """
        dtype = self.floor.dtype
        if roots is None and (dtype == torch.float64 or batch.dtype == torch.float64):
            batch = batch.to(dtype=dtype)
        return spectra(batch, roots=roots).to(dtype)

    def forward(self, batch: LoRABatch) -> Tensor:  # (b, width)
        """The features, not standardised."""
        return self.of_values(self.measure(batch))

    def of_values(self, values: Tensor) -> Tensor:  # (b, l, r) -> (b, width)
        """The features of LoRAs with these singular values."""
        raw, largest = self._raw(values)
        if not self.logarithm:
            return raw
        noise = (RELATIVE_FLOOR * largest).square() + self.floor.square()
        return 0.5 * (raw.square() + noise).log()

    def _raw(self, s: Tensor) -> tuple[Tensor, Tensor]:  # (b, width) twice
        """Values and norms, and the largest value of the same layer beside each."""
        norms = s.norm(dim=2, keepdim=True)
        kept = torch.nn.functional.pad(s, (0, max(0, self.values - s.shape[2])))[..., : self.values]
        layers = torch.cat([kept, norms], dim=2)
        largest = layers.amax(2, keepdim=True).expand_as(layers)
        total = norms.norm(dim=1)
        return torch.cat([layers.flatten(1), total], 1), torch.cat([largest.flatten(1), total], 1)


class Sizes(nn.Module):
    """Spectral features, standardised over the training LoRAs; logarithms are cut at 4 deviations.

    Statistics are those of the identity until fitted. A missing layer takes no part in them, and its
    features are 0, the training mean: nothing is known of it. Under g: unchanged, as the spectral features are.

    Example:
        >>> sizes = Sizes(batch.signature, values=4)
        >>> sizes.fit(batch)
        >>> sizes(batch).shape[1] == sizes.width
        True
    """

    def __init__(self, signature: Signature, *, values: int, logarithm: bool = True) -> None:
        super().__init__()
        self.spectra = SpectralFeatures(signature, values=values, logarithm=logarithm)
        self.width = self.spectra.width
        self.standardise = Standardise(self.width)

    def fit(self, batch: LoRABatch) -> None:
        """Stores floors, means and deviations of the training LoRAs."""
        values = self.spectra.measure(batch)
        self.spectra.fit_values(values)
        self.standardise.fit(self.spectra.of_values(values), self._there(batch))

    def forward(self, batch: LoRABatch, roots: Roots | None = None) -> Tensor:  # (b, width)
        """The standardised features. `roots` are those of the batch, where they are known already."""
        values = self.spectra.measure(batch, roots)
        raw = self.spectra.of_values(values)
        found = self.standardise.cut(raw) if self.spectra.logarithm else self.standardise(raw)
        return torch.where(self._there(batch), found, 0.0)

    def _there(self, batch: LoRABatch) -> Tensor:  # (b, width) bool
        there = batch.present.unsqueeze(2).expand(-1, -1, self.spectra.values + 1).flatten(1)
        # the total norm is always there
        return torch.nn.functional.pad(there, (0, 1), value=True)
