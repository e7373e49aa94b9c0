"""Standardisation of model inputs by statistics of the training set. Not a learned normalisation.

    x -> (x - mean) * scale,    scale = 1 / std over the training LoRAs

A feature that never varied in training (a zero-padded column, say) has scale 0: weights that no
training example touched must not speak about new ones.
"""

import torch
from torch import Tensor, nn

__all__ = ["FARTHEST", "Standardise"]

FARTHEST = 4.0  # deviations: what lies beyond was not learned from, LoRAs of other ranks mostly


class Standardise(nn.Module):
    """Subtracts the training mean and divides by the training deviation; identity until fitted.

    Example:
        >>> standardise = Standardise(1)
        >>> standardise.fit(torch.tensor([[1.0], [3.0]]))
        >>> standardise(torch.tensor([[2.0], [3.0]])).flatten().tolist()
        [0.0, 1.0]
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def fit(self, x: Tensor, keep: Tensor | None = None) -> None:  # (b, width) twice
        """Stores mean and 1 / deviation of each column (population, in float32 or wider).

        Where `keep` is False an entry does not count.
        """
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if x.shape[0] == 0:
            return
        if keep is None:
            var, mean = torch.var_mean(x, 0, correction=0)
        else:
            count = keep.sum(0).clamp(min=1)
            mean = torch.where(keep, x, 0.0).sum(0) / count
            var = torch.where(keep, (x - mean).square(), 0.0).sum(0) / count
        # relative to the column's own size: rounding noise of a constant column is not a signal
        varies = var.sqrt() > 1e-6 * mean.abs()
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(varies, var.rsqrt(), 0.0))

    def forward(self, x: Tensor) -> Tensor:  # (b, width)
        """The standardised columns."""
        return (x - self.mean) * self.scale

    def cut(self, x: Tensor) -> Tensor:  # (b, width)
        """The standardised columns, none farther from the mean than `FARTHEST` deviations.

        A singular value that is 0 in a LoRA of lower rank lies tens of deviations away as a logarithm,
        where a linear map answers with the slope alone.
        """
        found = self(x)
        # what is not finite stays so, for who checks the answers
        return torch.where(found.isfinite(), found.clamp(-FARTHEST, FARTHEST), found)
