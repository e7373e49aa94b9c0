"""Heads: from a vector of features to the outputs. What they are not: anything that knows a LoRA.

    linear:  x W^T + c, (in + 1) k parameters
    mlp:     Linear -> LayerNorm -> ReLU -> dropout, `depth` times, then Linear

The MLP has (in + 3) h parameters in its first hidden layer, (h + 3) h in each further one, and
(h + 1) k in the last.
"""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from lorascope.errors import DataError

__all__ = ["HeadKind", "LinearHead", "MLPHead", "build_head"]

HeadKind = Literal["linear", "mlp"]


class LinearHead(nn.Module):
    """One linear map with dropout on its input.

    Example:
        >>> LinearHead(8, 3)(torch.zeros(2, 8)).shape
        torch.Size([2, 3])
    """

    def __init__(self, in_features: int, out_features: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(in_features, out_features)

    def forward(self, x: Tensor) -> Tensor:  # (b, in) -> (b, k)
        return self.out(self.dropout(x))


class MLPHead(nn.Module):
    """Linear, LayerNorm, ReLU, dropout, `depth` times; then Linear (paper section 6.1 and 6.2).

    LayerNorm makes it indifferent to the overall size of its first layer's output, so that inputs
    of any scale train alike.

    Example:
        >>> MLPHead(8, 3, hidden=16)(torch.zeros(2, 8)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        hidden: int = 128,
        depth: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [in_features, *[hidden] * depth]
        self.body = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.ReLU(), nn.Dropout(dropout))
                for a, b in pairwise(widths)
            )
        )
        self.out = nn.Linear(widths[-1], out_features)

    def forward(self, x: Tensor) -> Tensor:  # (b, in) -> (b, k)
        return self.out(self.body(x))


def build_head(
    kind: HeadKind,
    in_features: int,
    out_features: int,
    *,
    hidden: int = 128,
    depth: int = 1,
    dropout: float = 0.0,
) -> LinearHead | MLPHead:
    """The head named `kind`; raises DataError for another name."""
    if kind == "linear":
        return LinearHead(in_features, out_features, dropout=dropout)
    if kind == "mlp":
        return MLPHead(in_features, out_features, hidden=hidden, depth=depth, dropout=dropout)
    raise DataError(f"Building a head: found {kind!r}, expected 'linear' or 'mlp'")
