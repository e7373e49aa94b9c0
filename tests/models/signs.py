"""LoRAs whose labels are signs of directions: spectra know the size and nothing else.

    update of layer l = s (y_1 a_1l b_1l^T + .8 y_2 a_2l b_2l^T + .6 y_3 a_3l b_3l^T) + noise,   y = -1, 1

with orthonormal a and b, written in a random gauge. Singular values are s, .8 s, .6 s whatever y is.
"""

import torch
from torch import Tensor

from lorascope.core import LoRA, LoRABatch, LowRank, collate
from lorascope.symmetry import act, random_gauges

SHAPES = {"0.q": (12, 10), "0.v": (6, 10), "1.q": (12, 10)}
WEIGHTS = torch.tensor([1.0, 0.8, 0.6])


def signed_loras(
    count: int, seed: int = 0, noise: float = 0.05
) -> tuple[LoRABatch, Tensor, Tensor]:  # y (count, 3) 0 or 1, log s (count, 1)
    """The LoRAs, which signs are positive, and the log sizes."""
    fixed, draw = torch.Generator().manual_seed(7), torch.Generator().manual_seed(seed)
    directions = {
        name: tuple(torch.linalg.qr(torch.randn(x, 3, generator=fixed)).Q for x in shape)
        for name, shape in SHAPES.items()
    }
    y = (torch.rand(count, 3, generator=draw) < 0.5).float()
    size = torch.randn(count, 1, generator=draw)
    loras = []
    for signs, s in zip(2 * y - 1, size.exp(), strict=True):
        layers = {}
        for name, (a, b) in directions.items():
            u = s * (a * signs * WEIGHTS + noise * torch.randn(a.shape, generator=draw))
            layers[name] = LowRank(u, b + noise * torch.randn(b.shape, generator=draw))
        lora = LoRA(layers)
        loras.append(act(random_gauges(lora, generator=draw, condition=3.0), lora))
    return collate(loras), y, size
