"""One module's tensors in a PEFT file -> one factor pair, with the scale folded into u.

    linear        A (r, m)          B (n, r)           u = s B            v = A^T
    convolution   A (r, in, k..)    B (n, r/g, 1..)    u = s B            v = A^T over in, k..    g groups
    embedding     A (r, tokens)     B (width, r)       u = s A^T          v = B      of a (tokens, width)
    AdaLoRA       A, B, E (r, 1)                       u = s B diag(E)    v = A^T
    KaSA          A, B, diag (r,)                      u = s B diag       v = A^T
    QA-LoRA       A (r, m/g)        x pooled over g    v = repeat(A^T, g) (m/g) / g
    BD-LoRA       A (r, m/k) or B (n, r/k)             the k blocks put on the diagonal

Source: peft 0.21.2, tuners/lora/layer.py, variants.py, gptq.py, tuners/adalora/layer.py. Half-precision
factors become fp32 as soon as anything is multiplied into them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lorascope.core.lora import Scale
from lorascope.core.low_rank import LowRank
from lorascope.errors import FormatError
from lorascope.io.factors import as_float, check_rank, fold
from lorascope.io.peft.config import PeftConfig
from lorascope.io.room import Room

__all__ = ["Built", "build_pair", "check_factor"]

MAX_GROUP_SIZE = 256  # of QA-LoRA, and
MAX_BLOCKS = 32  # of BD-LoRA: how many times larger than in the file a factor may become

PARTNERS = {
    "lora_A": "lora_B",
    "lora_B": "lora_A",
    "lora_embedding_A": "lora_embedding_B",
    "lora_embedding_B": "lora_embedding_A",
}


@dataclass(frozen=True, eq=False)
class Built:
    """A layer as read: its pair, its scale, its kind where it is no plain matrix, and a remark if any."""

    pair: LowRank
    scale: Scale
    kind: str | None = None
    remark: str | None = None


def build_pair(
    layer: str,
    slots: Mapping[str, Tensor],
    config: PeftConfig,
    where: str,
    room: Room,
    *,
    rule: str | None = None,
) -> Built:
    """The factor pair of one module.

    Args:
        layer: its name, for messages.
        slots: its tensors by slot, as in `lorascope.io.peft.keys.SLOTS`.
        room: what the modules of the file may expand to.
        rule: the path that the rules of the configuration match; by default the layer's name.

    Raises:
        FormatError: a half is missing, shapes do not go together, or the tensors were never gathered.
        HostileFileError: the rank is above its cap, or the file has no room for what a factor expands to.
    """
    _check_halves(layer, slots, where)
    rule = layer if rule is None else rule
    if "lora_embedding_A" in slots:
        return _embedding(layer, slots, config, where, rule)
    a = _factor(layer, "lora_A", slots, config, where)
    b = _factor(layer, "lora_B", slots, config, where)
    if a.ndim > 2:
        return _convolution(layer, a, b, config, where, rule, room)
    a, b = _expand_blocks(layer, a, b, config, where, room)
    _check_rank(layer, a, b, where)
    scale = config.scale_of(rule, a.shape[0])
    middle = _middle(layer, slots, a.shape[0], where)
    u = fold(b, scale.factor) if middle is None else fold(b, scale.factor) * middle
    return Built(_pair(u, _unpool(layer, a, config, where, room)), scale)


def check_factor(name: str, tensor: Tensor, where: str, *, may_be_empty: bool = False) -> None:
    """Raises FormatError for the shapes that unsharded saves leave behind."""
    if tensor.ndim < 2 or (tensor.numel() == 0 and not may_be_empty):
        raise FormatError(
            f"Reading {name!r} of {where!r}: its shape is {list(tensor.shape)}, expected two dimensions or "
            "more, none of them 0. The shards of a DeepSpeed ZeRO-3 or FSDP run were not gathered "
            "before saving. Try: save again inside deepspeed.zero.GatheredParameters or FSDP's "
            "summon_full_params."
        )


def _check_halves(layer: str, slots: Mapping[str, Tensor], where: str) -> None:
    found = [slot for slot in slots if slot in PARTNERS]
    missing = next((PARTNERS[slot] for slot in found if PARTNERS[slot] not in slots), None)
    if missing or not found:
        shapes = ", ".join(f"{slot} {list(tensor.shape)}" for slot, tensor in slots.items())
        raise FormatError(
            f"Reading layer {layer!r} of {where!r} as PEFT: found {shapes}, expected "
            f"{missing or 'lora_A and lora_B'} beside it. The file is incomplete. Try: save the adapter again."
        )
    if len(found) > 2:
        raise FormatError(
            f"Reading layer {layer!r} of {where!r} as PEFT: found {sorted(found)}, expected the factors of a "
            "matrix or of an embedding, not both."
        )


def _factor(
    layer: str, slot: str, slots: Mapping[str, Tensor], config: PeftConfig, where: str
) -> Tensor:
    name = f"{layer}.{slot}"
    tensor = slots[slot]
    # AdaLoRA prunes layers down to rank 0
    check_factor(name, tensor, where, may_be_empty=config.adalora)
    return as_float(tensor, name, where)


def _check_rank(layer: str, a: Tensor, b: Tensor, where: str) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise FormatError(
            f"Reading layer {layer!r} of {where!r}: A is {list(a.shape)} and B is {list(b.shape)}, expected "
            "(r, in) and (out, r) with one r."
        )
    check_rank(layer, a.shape[0], where)


def _embedding(
    layer: str, slots: Mapping[str, Tensor], config: PeftConfig, where: str, rule: str
) -> Built:
    a = _factor(layer, "lora_embedding_A", slots, config, where)
    b = _factor(layer, "lora_embedding_B", slots, config, where)
    _check_rank(layer, a, b, where)
    scale = config.scale_of(rule, a.shape[0])
    return Built(_pair(fold(a.T, scale.factor), b), scale, "embedding")


def _convolution(
    layer: str,
    a: Tensor,
    b: Tensor,
    config: PeftConfig,
    where: str,
    rule: str,
    room: Room,
) -> Built:
    rank, kernel = a.shape[0], tuple(a.shape[2:])
    groups = rank // b.shape[1] if b.shape[1] and rank % b.shape[1] == 0 else 0
    if b.ndim != a.ndim or math.prod(b.shape[2:]) != 1 or not groups or b.shape[0] % groups:
        raise FormatError(
            f"Reading layer {layer!r} of {where!r}: A is {list(a.shape)} and B is {list(b.shape)}, expected "
            "(r, in, kernel) and (out, r / groups, 1, ..) of a convolution."
        )
    check_rank(layer, rank, where)
    b = b.flatten(1)
    remark = None
    if groups > 1:
        # each group of outputs sees its own group of ranks: B is block-diagonal
        room.take(layer, where, groups * b.numel(), b.itemsize)
        b = block_diagonal(b, groups)
        remark = f"grouped: {layer!r} is a convolution of {groups} groups; the update is that of all inputs"
    scale = config.scale_of(rule, rank)
    pair = _pair(fold(b, scale.factor), a.flatten(1).T, kernel)
    return Built(pair, scale, "conv", remark)


def _middle(layer: str, slots: Mapping[str, Tensor], rank: int, where: str) -> Tensor | None:
    """(r,), what stands between B and A, None for plain LoRA."""
    slot = next((slot for slot in ("lora_E", "lora_diag") if slot in slots), None)
    if slot is None:
        return None
    middle = as_float(slots[slot], f"{layer}.{slot}", where).flatten()
    if middle.shape != (rank,):
        raise FormatError(
            f"Reading layer {layer!r} of {where!r}: {slot} holds {middle.shape[0]} values, expected {rank}, "
            "one for each rank."
        )
    return middle.to(torch.promote_types(middle.dtype, torch.float32))


def _expand_blocks(
    layer: str, a: Tensor, b: Tensor, config: PeftConfig, where: str, room: Room
) -> tuple[Tensor, Tensor]:
    """BD-LoRA: the factor that is block-diagonal, with its blocks on the diagonal."""
    blocks = config.table("use_bdlora")
    if not blocks:
        return a, b
    count = blocks.get("nblocks", 1)
    if type(count) is not int or not 1 <= count <= MAX_BLOCKS:
        raise FormatError(
            f"Reading {where!r}: nblocks is {count!r:.40}, expected a whole number to {MAX_BLOCKS}."
        )
    for slot, names in (("A", "target_modules_bd_a"), ("B", "target_modules_bd_b")):
        if not any(str(part) in layer for part in blocks.get(names) or ()):
            continue
        rows = a.shape[0] if slot == "A" else b.shape[0]
        if rows % count:
            raise FormatError(
                f"Reading layer {layer!r} of {where!r}: {slot} has {rows} rows, expected a multiple of the "
                f"{count} blocks."
            )
        stacked = a if slot == "A" else b
        room.take(layer, where, count * stacked.numel(), stacked.itemsize)
        if slot == "A":
            return block_diagonal(a, count), b
        return a, block_diagonal(b, count)
    return a, b


def block_diagonal(stacked: Tensor, count: int) -> Tensor:
    """(p, q) -> (p, count q): the blocks that lie one under the other, put on the diagonal."""
    wide: Tensor = torch.block_diag(*stacked.chunk(count))  # type: ignore[no-untyped-call]
    return wide


def _unpool(layer: str, a: Tensor, config: PeftConfig, where: str, room: Room) -> Tensor:
    """v (m, r) of A (r, m), or of QA-LoRA's A (r, m/g): the mean over g inputs times m/g."""
    if not config.flag("use_qalora"):
        return a.T
    size = config.count("qalora_group_size", 16, MAX_GROUP_SIZE)
    room.take(layer, where, size * a.numel(), max(4, a.itemsize))  # at least in float32
    wide = a.to(torch.promote_types(a.dtype, torch.float32)) * (a.shape[1] / size)
    return wide.T.repeat_interleave(size, dim=0)


def _pair(u: Tensor, v: Tensor, kernel: tuple[int, ...] = ()) -> LowRank:
    dtype = torch.promote_types(u.dtype, v.dtype)
    return LowRank(u.to(dtype), v.to(dtype), kernel)
