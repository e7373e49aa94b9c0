"""Whether all values of a file are in the LoRA that was read from it."""

from collections.abc import Mapping

from torch import Tensor

from lorascope.core import LoRA


def values_of(lora: LoRA) -> int:
    """Number of values that a file needs for a LoRA of plain pairs: fused layers share their v."""
    shared = {pair.v.data_ptr(): pair.v.numel() for pair in lora.layers.values()}
    outer = sum(pair.u.numel() for pair in lora.layers.values())
    return outer + sum(shared.values()) + sum(side.tensor.numel() for side in lora.side.values())


def values_in(tensors: Mapping[str, Tensor]) -> int:
    """Number of values in a file, without the scales."""
    return sum(tensor.numel() for key, tensor in tensors.items() if not key.endswith(".alpha"))
