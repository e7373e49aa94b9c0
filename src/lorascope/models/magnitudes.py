"""DoRA's magnitudes as numbers that a model can read without the base: how they differ from those of training.

    d      = m - mean of the training LoRAs       a learned stand-in for the base's own row norms
    x      = [C^T d / scale,  C^T d / |d|]        C: the leading principal components of d, layer by layer
    beside   log |d| standardised, and whether the layer has magnitudes, less the share of training that does

All of a layer that has none is zero, but the last number. Nothing of it depends on the gauge, which leaves
magnitudes as they are. Not a model: `fusion` reads it. Fitted to LoRAs without any it has no buffers at all.

Measured on 200 DoRA adapters of an exam: with 16 components a layer sources have an accuracy of .949, with
all 48 of .968, because what tells them is not what varies most.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lorascope.core.batch import LoRABatch
from lorascope.core.magnitudes import Magnitudes
from lorascope.core.signature import Signature
from lorascope.models.standardise import FARTHEST

__all__ = ["MagnitudeFeatures"]

COMPONENTS = 64  # of a layer, at most
NUMBERS = 2_000_000  # of all layers' components: 8 MB
FLOOR = 1e-3  # of a layer's usual deviation: smaller ones are taken as no deviation


class MagnitudeFeatures(nn.Module):
    """The numbers of every layer, once fitted to training LoRAs of which some have magnitudes.

    Under g: unchanged. Width: layers (2 c + 2). Cost: O(c sum n) a LoRA.

    Example:
        >>> features = MagnitudeFeatures(batch.signature)
        >>> features.fit(batch)
        >>> features.fitted == (batch.magnitudes is not None)
        True
    """

    def __init__(self, signature: Signature) -> None:
        super().__init__()
        self.signature = signature
        rows, widest = sum(x.n for x in signature.layers), max(x.n for x in signature.layers)
        self.components = max(1, min(COMPONENTS, widest, NUMBERS // rows))
        self.width = len(signature) * (2 * self.components + 2)

    @property
    def fitted(self) -> bool:
        """Whether any training LoRA had magnitudes."""
        return "usual" in self._buffers

    @torch.no_grad()
    def fit(self, batch: LoRABatch) -> None:
        """Stores means, components and usual sizes of the training LoRAs, where any has magnitudes."""
        magnitudes = batch.magnitudes
        if magnitudes is None or not bool(magnitudes.present.any()):
            return
        for name, like in self._empty().items():
            self.register_buffer(name, like.to(batch.device))
        there = self._stacked(magnitudes.present)  # per group (l, b)
        for index, (m, mask) in enumerate(zip(magnitudes.groups, there, strict=True)):
            mean, components = _components(m.double(), mask, self.components)
            self.get_buffer(f"mean_{index}").copy_(mean)
            self.get_buffer(f"components_{index}").copy_(components)
        size = self._size(magnitudes)
        known = torch.where(magnitudes.present, size, torch.nan)
        usual = known.square().nanmean(0).sqrt().nan_to_num(1.0)
        self.get_buffer("usual").copy_(torch.where(usual > 0, usual, 1.0))
        log = torch.where(magnitudes.present, self._log(size), torch.nan)
        mean = log.nanmean(0).nan_to_num(0.0)
        std = (log - mean).square().nanmean(0).sqrt().nan_to_num(1.0)
        self.get_buffer("log_mean").copy_(mean)
        self.get_buffer("log_std").copy_(torch.where(std > 1e-6, std, 1.0))
        self.get_buffer("share").copy_(magnitudes.present.to(mean.dtype).mean(0))

    def forward(self, batch: LoRABatch) -> Tensor:  # (b, width)
        """The numbers of each LoRA: components layer by layer, then log norms, then what is there."""
        usual = self.get_buffer("usual")
        share = self.get_buffer("share")
        magnitudes = batch.magnitudes
        if magnitudes is None:
            none = usual.new_zeros(batch.size, self.width - len(share))
            return torch.cat([none, -share.expand(batch.size, -1)], 1)
        size = self._size(magnitudes)
        floored = (size.square() + (FLOOR * usual).square()).sqrt()
        scores = [
            d @ self.get_buffer(f"components_{index}")
            for index, d in enumerate(self._deviations(magnitudes))
        ]
        x = torch.cat(scores)[batch.layer_order].transpose(0, 1)  # (b, L, c)
        x = torch.cat([x / usual.unsqueeze(1), x / floored.unsqueeze(2)], 2)
        log = (self._log(size) - self.get_buffer("log_mean")) / self.get_buffer("log_std")
        log = log.clamp(-FARTHEST, FARTHEST)
        there = magnitudes.present
        log, x = (
            torch.where(mask, part, 0.0) for mask, part in ((there, log), (there[..., None], x))
        )
        return torch.cat([x.flatten(1), log, there.to(x.dtype) - share], 1)

    def by_layer(self, terms: Tensor) -> Tensor:  # (width,) -> (l,)
        """Sums of terms, one for each of the numbers, over the numbers of a layer."""
        layers = len(self.signature)
        split = terms[: -2 * layers].view(layers, -1).sum(1)
        return split + terms[-2 * layers : -layers] + terms[-layers:]

    def _stacked(self, present: Tensor) -> list[Tensor]:  # (b, L) -> (l, b) each
        """Which of the layers of each shape group are there."""
        return [present[:, list(group.indices)].T for group in self.signature.groups()]

    def _deviations(self, magnitudes: Magnitudes) -> list[Tensor]:  # (l, b, n) each
        return [
            m.to(self.get_buffer("usual").dtype) - self.get_buffer(f"mean_{index}").unsqueeze(1)
            for index, m in enumerate(magnitudes.groups)
        ]

    def _size(self, magnitudes: Magnitudes) -> Tensor:  # (b, L)
        """|d| of each layer, in signature order; of no meaning where there are none."""
        norms = torch.cat([d.norm(dim=2) for d in self._deviations(magnitudes)])
        order = [index for group in self.signature.groups() for index in group.indices]
        return norms[torch.tensor(order, device=norms.device).argsort()].T

    def _log(self, size: Tensor) -> Tensor:
        return 0.5 * (size.square() + (FLOOR * self.get_buffer("usual")).square()).log()

    def _empty(self) -> dict[str, Tensor]:
        """The buffers before they are filled."""
        layers = len(self.signature)
        empty = {name: torch.ones(layers) for name in ("usual", "log_mean", "log_std", "share")}
        for index, group in enumerate(self.signature.groups()):
            empty[f"mean_{index}"] = torch.zeros(len(group), group.n)
            empty[f"components_{index}"] = torch.zeros(len(group), group.n, self.components)
        return empty

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # only what was fitted to magnitudes has buffers, and so has its state
        empty = self._empty()
        if not self.fitted and any(prefix + name in state_dict for name in empty):
            for name, like in empty.items():
                self.register_buffer(name, like)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _components(m: Tensor, there: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean (l, n) and leading principal components (l, n, count) of m (l, b, n) over those there (l, b)."""
    weight = there.to(m.dtype).unsqueeze(-1)
    mean = (m * weight).sum(1) / weight.sum(1).clamp(min=1)
    centred = (m - mean.unsqueeze(1)) * weight
    vectors = torch.linalg.svd(centred, full_matrices=False).Vh.mT[..., :count]
    return mean, torch.nn.functional.pad(vectors, (0, count - vectors.shape[-1]))
