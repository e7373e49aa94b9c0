"""LoRA and LoCon: a pair as the file has it.

    linear         down (r, m)            up (n, r)           u = s up    v = down^T
    convolution    down (r, in, k..)      up (n, r, 1..)      u = s up    v = down^T over in, k..
    with a middle  down (r, in, 1..)      up (n, r, 1..)      v = (mid x down)^T
                   mid (r, r, k..)        update[a, i, k] = s sum mid[p, q, k] up[a, p] down[q, i]

Source: lycoris 4.1.3, functional/locon.py; sd-scripts, networks/lora.py.
"""

import math

import torch
from torch import Tensor

from lorascope.core.low_rank import LowRank
from lorascope.io.factors import check_rank, fold
from lorascope.io.modules.parts import Built, Parts, alpha_scale, join

__all__ = ["build_low_rank"]

USED = frozenset({"down", "up", "mid", "alpha"})


def build_low_rank(parts: Parts) -> Built:
    """The pair of a LoRA or LoCon module. Raises FormatError where halves are missing or do not fit."""
    down, up = parts.factor("down"), parts.factor("up")
    rank = down.shape[0]
    if up.shape[1] != rank or (up.ndim > 2 and math.prod(up.shape[2:]) != 1):
        raise parts.misfit("down", "up")
    check_rank(parts.layer, rank, parts.where)
    scale = alpha_scale(parts, rank)
    if "mid" in parts:
        pair = _with_middle(parts, down, up, scale.factor)
    elif down.ndim == 2 and up.ndim == 2:
        return Built(join(fold(up, scale.factor), down.T), scale, used=USED)
    else:
        pair = join(fold(up.flatten(1), scale.factor), down.flatten(1).T, tuple(down.shape[2:]))
    return Built(pair, scale, kind="conv" if pair.kernel else None, used=USED)


def _with_middle(parts: Parts, down: Tensor, up: Tensor, factor: float) -> LowRank:
    middle = parts.factor("mid")
    rank, kernel = down.shape[0], tuple(middle.shape[2:])
    if middle.ndim < 3 or middle.shape[:2] != (rank, rank) or math.prod(down.shape[2:]) != 1:
        raise parts.misfit("down", "mid")
    parts.room_for(rank, down.shape[1], math.prod(kernel))
    v = torch.einsum("pqk,qi->ikp", parts.matrix("mid").view(rank, rank, -1), parts.matrix("down"))
    return join(fold(up.flatten(1), factor), v.flatten(0, 1), kernel)
