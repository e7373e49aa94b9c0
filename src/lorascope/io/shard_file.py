"""One shard: many LoRAs of one signature and one rank in a safetensors file, in the layout that models read.

    u.G: (l, b, r, n)    v.G: (l, b, r, m)    for shape group number G of the signature
    ranks: (b, l) int16                        the true ranks; 0 = the layer is missing
    side.I: any tensor                         side tensors, described in the metadata by number

A tiny LoRA's own safetensors header is a third of its file, so a zoo packs them; and stacked factors load
straight into a `LoRABatch`, DoRA's magnitudes with them. Names of layers and of side tensors stand in the
metadata, never in a key.
"""

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lorascope.core import GroupBatch, LoRA, LoRABatch, Side, Signature, collate
from lorascope.core.magnitudes import (
    MAGNITUDE,
    Magnitudes,
    fill_magnitudes,
    layer_of_magnitude,
    of_rows,
    side_kind,
)
from lorascope.errors import IntegrityError, LayerError, SignatureError
from lorascope.io.header import read_header

__all__ = [
    "lora_digest",
    "read_shard",
    "read_shard_loras",
    "read_shard_side_kinds",
    "read_shard_signature",
    "read_shard_size",
    "sync",
    "write_shard",
]

FORMAT = "lorascope shard 1"


def write_shard(path: Path, loras: Sequence[LoRA], signature: Signature, *, rank: int) -> None:
    """Write LoRAs under a signature, padded to a rank, atomically.

    Raises SignatureError or RankError (from `collate`) before anything is written.
    """
    batch = collate(loras, signature, rank=rank, allow_missing=True, device="cpu")
    tensors: dict[str, Tensor] = {"ranks": batch.ranks.to(torch.int16)}
    for number, group in enumerate(batch.groups):
        tensors[f"u.{number}"] = group.u.contiguous()
        tensors[f"v.{number}"] = group.v.contiguous()
    sides: list[tuple[int, str, str]] = []
    for row, lora in enumerate(loras):
        for name, side in lora.side.items():
            tensors[f"side.{len(sides)}"] = side.tensor.contiguous().clone()
            sides.append((row, name, side.kind))
    # one entry: safetensors writes several in an order that differs from process to process
    described = {
        "format": FORMAT,
        "signature": signature.to_json(),
        "kernels": _kernels(path, loras),
        "sides": sides,
    }
    metadata = {"shard": json.dumps(described)}
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, metadata)
    part.chmod(_usual_mode(part))
    sync(part)
    part.replace(path)


def read_shard_signature(path: Path) -> Signature:
    """The signature of a shard, from its header alone. Raises IntegrityError if it is no shard."""
    try:
        return Signature.from_json(_metadata(path, "signature"))
    except SignatureError as error:
        raise IntegrityError(f"Reading the shard {path}: {error}") from error


def read_shard_size(path: Path) -> tuple[int, int]:
    """How many LoRAs a shard holds and their rank, from its header alone.

    Raises IntegrityError if the file is no shard.
    """
    tensors = read_header(path).tensors
    ranks, first = (tensors[name].shape if name in tensors else () for name in ("ranks", "u.0"))
    if len(ranks) != 2 or len(first) != 4:
        raise IntegrityError(
            f"Reading the shard {path}: found ranks of shape {list(ranks)} and factors of shape {list(first)}, "
            "expected (LoRAs, layers) and (layers, LoRAs, rank, width). The file was changed or damaged."
        )
    return ranks[0], first[2]


def read_shard(path: Path, *, rows: Sequence[int] | None = None) -> LoRABatch:
    """The LoRAs of a shard, or some of its rows, as a batch of the stored type, with DoRA's magnitudes.

    Raises IntegrityError if the file is no shard or does not hold what its signature says.
    """
    signature = read_shard_signature(path)
    try:
        with safe_open(path, framework="pt") as file:
            ranks = file.get_tensor("ranks").long()
            groups = []
            for number in range(len(signature.groups())):
                u, v = file.get_tensor(f"u.{number}"), file.get_tensor(f"v.{number}")
                groups.append(GroupBatch(u, v))
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"Reading the shard {path}: {error}. Try: zoo build again.") from error
    batch = LoRABatch(signature, tuple(groups), ranks)
    for shape, group in zip(signature.groups(), groups, strict=True):
        if group.u.shape != (len(shape), batch.size, batch.rank, shape.n):
            raise IntegrityError(
                f"Reading the shard {path}: found factors of shape {tuple(group.u.shape)}, expected "
                f"{(len(shape), batch.size, batch.rank, shape.n)}. The file was changed or damaged."
            )
    batch = replace(batch, magnitudes=_magnitudes(path, signature, batch.size))
    return batch if rows is None else batch.select(list(rows))


def read_shard_loras(path: Path, rows: Sequence[int] | None = None) -> list[LoRA]:
    """The LoRAs of a shard, or some of its rows, at their true ranks, without provenance.

    Raises IntegrityError if the file is no shard or does not hold what its signature says.
    """
    batch = read_shard(path, rows=rows)
    kernels = _kernels_of(path)
    sides = _sides(path)
    places = range(batch.size) if rows is None else rows
    return [
        LoRA(
            {n: replace(lora.pair(n), kernel=kernels.get(n, ())) for n in lora.layers},
            sides.get(place, {}),
        )
        for place, lora in zip(places, batch.unbind(), strict=True)
    ]


def read_shard_side_kinds(path: Path) -> set[str]:
    """The kinds of side tensors that any LoRA of a shard has, from its header alone.

    Raises IntegrityError if the file is no shard.
    """
    entries = _side_entries(path)
    with safe_open(path, framework="pt") as file:
        return {
            side_kind(kind, file.get_slice(f"side.{number}").get_shape())
            for number, (_, _, kind) in enumerate(entries)
        }


def _magnitudes(path: Path, signature: Signature, count: int) -> Magnitudes | None:
    """DoRA's magnitudes of all LoRAs of a shard; its header alone says whether there are some."""
    numbers = {
        (row, layer_of_magnitude(name)): f"side.{number}"
        for number, (row, name, kind) in enumerate(_side_entries(path))
        if kind == MAGNITUDE
    }

    if not numbers:
        return None
    with safe_open(path, framework="pt") as file:

        def find(row: int, layer: str, n: int) -> Tensor | None:
            key = numbers.get((row, layer))
            if key is None or not of_rows(file.get_slice(key).get_shape(), n):
                return None
            found: Tensor = file.get_tensor(key)
            return found

        return fill_magnitudes(find, count, signature)


def _sides(path: Path) -> dict[int, dict[str, Side]]:
    """The side tensors of each row that has some."""
    entries = _side_entries(path)
    sides: dict[int, dict[str, Side]] = {}
    with safe_open(path, framework="pt") as file:
        for number, (owner, name, kind) in enumerate(entries):
            sides.setdefault(owner, {})[name] = Side(kind, file.get_tensor(f"side.{number}"))
    return sides


def _side_entries(path: Path) -> list[tuple[int, str, str]]:
    """(row, name, kind) of each side tensor of a shard, all of which are there."""
    entries, tensors = _metadata(path, "sides"), read_header(path).tensors
    sound = isinstance(entries, list) and all(
        isinstance(entry, list)
        and tuple(map(type, entry)) == (int, str, str)
        and f"side.{number}" in tensors
        for number, entry in enumerate(entries)
    )
    if not sound:
        raise IntegrityError(
            f"Reading the shard {path}: found the side tensors {entries!r:.80}, expected the row, name and "
            "kind of tensors that it holds. The file was changed or damaged."
        )
    return [(row, name, kind) for row, name, kind in entries]


def _kernels_of(path: Path) -> dict[str, tuple[int, ...]]:
    """The kernel of each layer that is a convolution."""
    kernels = _metadata(path, "kernels")
    sound = isinstance(kernels, dict) and all(
        isinstance(kernel, list) and all(type(size) is int for size in kernel)
        for kernel in kernels.values()
    )
    if not sound:
        raise IntegrityError(
            f"Reading the shard {path}: found the kernels {kernels!r:.80}, expected sizes by layer. The file "
            "was changed or damaged."
        )
    return {name: tuple(kernel) for name, kernel in kernels.items()}


def lora_digest(lora: LoRA) -> str:
    """sha256 (hex) of a LoRA's factors: layer names, sizes, types and bytes, in the order of the names.

    It is a hash of the stored values: another gauge of the same adapter has another digest.
    """
    digest = hashlib.sha256()
    for name in sorted(lora):
        pair = lora.pair(name)
        digest.update(f"{name}\0{pair.n}\0{pair.m}\0{pair.rank}\0{pair.dtype}\0".encode())
        for factor in (pair.u, pair.v):
            # columns as rows: the layout of a shard, so that both hash the same bytes
            digest.update(factor.detach().cpu().T.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Make a written file durable before it is renamed into place."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _usual_mode(path: Path) -> int:
    """The mode that the umask leaves a new file: safetensors writes for the owner only, and zoos are shared."""
    # asked of a file, since the umask itself can only be read by setting it, for all threads
    # named as a write that did not end, since a kill may leave it
    probe = path.with_name(path.stem + ".mode.part")
    probe.unlink(missing_ok=True)
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    return mode


def _kernels(path: Path, loras: Sequence[LoRA]) -> dict[str, tuple[int, ...]]:
    """The kernel of each layer that is a convolution: one base gives all its LoRAs the same."""
    kernels: dict[str, tuple[int, ...]] = {}
    for lora in loras:
        for name, pair in lora.layers.items():
            if kernels.setdefault(name, pair.kernel) != pair.kernel:
                raise LayerError(
                    f"Writing the shard {path}: LoRAs give layer {name!r} the kernels {kernels[name]} and "
                    f"{pair.kernel}, expected one. Try: a zoo for each base."
                )
    return {name: kernel for name, kernel in kernels.items() if kernel}


def _metadata(path: Path, key: str) -> Any:
    """One entry of the description of a shard, which is JSON in its metadata."""
    text = read_header(path).metadata.get("shard", "{}")
    try:
        described = json.loads(text)
        found = described.get("format")
    except (ValueError, AttributeError, RecursionError) as error:
        raise IntegrityError(
            f"Reading the shard {path}: its metadata cannot be read ({error})."
        ) from error
    if found != FORMAT:
        raise IntegrityError(
            f"Reading the shard {path}: found the format {found!r}, expected "
            f"{FORMAT!r}. It is no shard of a zoo, or one of another version of lorascope."
        )
    if key not in described:
        raise IntegrityError(f"Reading the shard {path}: its metadata has no {key!r}.")
    return described[key]
