"""Whether all values of a file are in the LoRA that was read from it: by count, and by change."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lorascope.core import Hadamard, Kronecker, LoRA, LowRank, Update
from lorascope.errors import FileError
from lorascope.io import read_lora


def values_of(lora: LoRA) -> int:
    """Number of values that a file needs for a LoRA: parts of a fused layer share what has no rows of it."""
    own, shared = 0, {}
    for update in lora.layers.values():
        with_rows, without = parted(update)
        own += sum(tensor.numel() for tensor in with_rows)
        shared |= {tensor.data_ptr(): tensor.numel() for tensor in without}
    return own + sum(shared.values()) + sum(side.tensor.numel() for side in lora.side.values())


def parted(update: Update) -> tuple[list[Tensor], list[Tensor]]:
    """The factors that carry the rows of an update, and those that all parts of a fused one share."""
    if isinstance(update, LowRank):
        return [update.u], [update.v]
    if isinstance(update, Hadamard):
        return [update.one.u, update.two.u], [update.one.v, update.two.v]
    assert isinstance(update, Kronecker)
    rows, *rest = update.factors  # the rows of w1 are cut
    return [rows], rest


def values_in(tensors: Mapping[str, Tensor]) -> int:
    """Number of values in a file, without the scales."""
    return sum(tensor.numel() for key, tensor in tensors.items() if not key.endswith(".alpha"))


def without_effect(path: Path, folder: Path) -> Iterator[str]:
    """The values of a file whose change changes nothing of the LoRA that is read from it."""
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    before = content(read_lora(path))
    for key, tensor in tensors.items():
        for place in range(tensor.numel()):
            changed = tensor.clone().reshape(-1)
            changed[place] = changed[place] * 2 + 0.5
            other = folder / "changed.safetensors"
            save_file(tensors | {key: changed.reshape(tensor.shape)}, other, metadata)
            try:
                after = content(read_lora(other))
            except FileError:
                continue  # which is an answer too
            if same(before, after):
                yield f"{key}[{place}]"


def content(lora: LoRA) -> tuple[dict[str, Tensor], str]:
    """Updates and side tensors in full, and the raw scales."""
    tensors = {name: update.dense() for name, update in lora.layers.items()}
    tensors |= {name: side.tensor for name, side in lora.side.items()}
    scales = {name: (s.alpha, s.factor) for name, s in lora.provenance.scales.items()}
    return tensors, json.dumps(scales)


def same(a: tuple[dict[str, Tensor], str], b: tuple[dict[str, Tensor], str]) -> bool:
    return (
        a[0].keys() == b[0].keys()
        and a[1] == b[1]
        and all(torch.equal(tensor, b[0][name]) for name, tensor in a[0].items())
    )
