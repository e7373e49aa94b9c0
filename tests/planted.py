"""A small labelled collection with labels planted in the weights, and everything about it known.

    update of layer l = s * sum_c y_c a_cl b_cl^T + noise     written as (u g, v g^-T) with a random g

The classes are which directions occur (*what*), the score is log s (*how much*), the kind is the strongest
direction. A flat reader of (u, v) sees random gauges.
"""

import numpy as np
import torch

from lorascope.core.lora import LoRA, Provenance
from lorascope.core.low_rank import LowRank
from lorascope.predict.target import Target
from lorascope.train.data import LabelledLoRAs, label_loras

BASE = "planted-base"
SHAPES = {"block.0.q": (12, 10), "block.0.v": (6, 10), "block.1.q": (12, 10)}
CLASSES = ("red", "green", "blue")
TARGETS = (
    Target("sources", "multilabel", CLASSES),
    Target("score", "regression", unit="nats"),
    Target("kind", "multiclass", CLASSES),
)


def planted_loras(count: int, seed: int = 0, noise: float = 0.02) -> tuple[list[LoRA], np.ndarray]:
    """LoRAs with their hidden (count, 4) table: the presence of each class, and log s."""
    fixed = torch.Generator().manual_seed(12345)
    directions = {
        name: (torch.randn(n, 3, generator=fixed), torch.randn(m, 3, generator=fixed))
        for name, (n, m) in SHAPES.items()
    }
    draw = torch.Generator().manual_seed(seed)
    loras, table = [], np.zeros((count, 4))
    for row in range(count):
        present = (torch.rand(3, generator=draw) < 0.5).float()
        size = torch.randn((), generator=draw) * 0.5
        strength = present * (0.5 + torch.rand(3, generator=draw)) + 0.05
        layers = {}
        for name, (a, b) in directions.items():
            u = a * strength * size.exp() + noise * torch.randn(a.shape, generator=draw)
            rotation = torch.linalg.qr(torch.randn(3, 3, generator=draw)).Q
            g = rotation * (0.3 * torch.randn(3, generator=draw)).exp()
            layers[name] = LowRank(u @ g, b @ torch.linalg.inv(g).T)
        loras.append(LoRA(layers, {}, Provenance(base=BASE)))
        table[row] = [*present.tolist(), float(size)]
    return loras, table


def planted(count: int = 240, seed: int = 0) -> LabelledLoRAs:
    """The labelled collection; rows are paired in groups, and one hyper-parameter knows the score."""
    loras, table = planted_loras(count, seed)
    rng = np.random.default_rng(seed)
    return label_loras(
        loras,
        {
            "sources": table[:, :3],
            "score": 10 + 3 * table[:, 3],
            "kind": [CLASSES[int(k)] for k in _strongest(loras)],
        },
        TARGETS,
        groups=[f"pair-{row // 2}" for row in range(count)],
        hyper={
            "rate": np.exp(table[:, 3] + 0.2 * rng.normal(size=count)),
            "epochs": rng.integers(1, 4, count),
        },
    )


def _strongest(loras: list[LoRA]) -> list[int]:
    """The direction with the largest part in the first layer of each LoRA."""
    fixed = torch.Generator().manual_seed(12345)
    a = torch.randn(12, 3, generator=fixed)
    b = torch.randn(10, 3, generator=fixed)
    parts = torch.stack(
        [
            (torch.linalg.pinv(a) @ x["block.0.q"].dense() @ torch.linalg.pinv(b).T).diagonal()
            for x in loras
        ]
    )
    return parts.argmax(1).tolist()
