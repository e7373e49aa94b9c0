"""An update -> the tensors of one module by slot: the inverse of `build_module`.

    pair u, v             down v^T   up u / factor   alpha
    Kronecker             lokr_w1 | lokr_w1_a, lokr_w1_b   lokr_w2 | lokr_w2_a, lokr_w2_b [, lokr_t2]   alpha
    entrywise product     hada_w1_a, hada_w1_b, hada_w2_a, hada_w2_b   alpha

The raw alpha is that of the scale, where it belongs to this rank, else r. A decomposed w2 of a convolution is
written in Tucker form with a unit matrix in it, the one spelling that keeps the kernel. An entrywise product
of convolutions or of two ranks has no spelling of its own and is written as a pair.
"""

import torch
from torch import Tensor

from lorascope.core import Hadamard, Kronecker, LowRank, Scale, Update

__all__ = ["slots_of"]


def slots_of(update: Update, scale: Scale | None = None) -> dict[str, Tensor]:
    """The tensors of a module that reads as the update, all contiguous.

    Args:
        scale: the raw scale of the layer.
    """
    if isinstance(update, Kronecker):
        slots = _kronecker(update, scale)
    elif isinstance(update, Hadamard) and not update.kernel and update.one.rank == update.two.rank:
        alpha, factor = _raw(scale, update.one.rank)
        slots = {
            "hada_w1_a": update.one.u / factor,
            "hada_w1_b": update.one.v.T,
            "hada_w2_a": update.two.u,
            "hada_w2_b": update.two.v.T,
            "alpha": torch.tensor(alpha),
        }
    else:
        slots = _pair(update.to_low_rank(), scale)
    return {slot: tensor.contiguous() for slot, tensor in slots.items()}


def _pair(pair: LowRank, scale: Scale | None) -> dict[str, Tensor]:
    # no reader takes rank 0: a column of zeros is the same update
    pair = pair if pair.rank else pair.pad(1)
    alpha, factor = _raw(scale, pair.rank)
    down, up = pair.v.T.contiguous(), pair.u if factor == 1.0 else pair.u / factor
    if pair.kernel:
        down = down.reshape(pair.rank, -1, *pair.kernel)
        up = up.reshape(*up.shape, *(1 for _ in pair.kernel))
    return {"down": down, "up": up, "alpha": torch.tensor(alpha)}


def _kronecker(update: Kronecker, scale: Scale | None) -> dict[str, Tensor]:
    w1, w2 = update.w1, update.w2
    decomposed = w2 if isinstance(w2, LowRank) else w1
    slots: dict[str, Tensor] = {}
    factor = 1.0
    if isinstance(decomposed, LowRank):
        alpha, factor = _raw(scale, decomposed.rank)
        slots["alpha"] = torch.tensor(alpha)
    elif scale is not None and scale.alpha is not None:
        slots["alpha"] = torch.tensor(scale.alpha)  # which counts for nothing
    if isinstance(w1, LowRank):
        slots |= {"lokr_w1_a": w1.u / factor, "lokr_w1_b": w1.v.T}
    else:
        slots["lokr_w1"] = w1 / factor
    if isinstance(w2, Tensor):
        shape = (w2.shape[0], -1, *update.kernel) if update.kernel else w2.shape
        slots["lokr_w2"] = w2.reshape(shape)
    elif update.kernel:
        middle = w2.v.T.reshape(w2.rank, -1, *update.kernel)
        eye = torch.eye(middle.shape[1], dtype=w2.dtype, device=w2.device)
        slots |= {"lokr_t2": middle, "lokr_w2_a": w2.u.T, "lokr_w2_b": eye}
    else:
        slots |= {"lokr_w2_a": w2.u, "lokr_w2_b": w2.v.T}
    return slots


def _raw(scale: Scale | None, rank: int) -> tuple[float, float]:
    """alpha, and the factor that it folds in when the tensors are read."""
    if scale is not None and scale.alpha and scale.rank == rank and scale.rule == "alpha/r":
        return scale.alpha, scale.factor
    return float(rank), 1.0
