"""DoRA's magnitudes of many LoRAs, stacked beside their factors: one number for each row of a new weight.

    W' = m * (W + u v^T) / |W + u v^T|      |.| row by row (Liu et al. 2024, equation 5)
    per shape group, with l layers and b LoRAs:    m: (l, b, n), zero where a LoRA has none

Magnitudes of the columns, which some trainers write, are of another kind: they stay among a LoRA's side
tensors. A change of gauge leaves magnitudes as they are. Their meaning lies in small differences from the
base's own norms, so a batch in half precision keeps them in float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorascope.core.lora import LoRA, Side
from lorascope.core.signature import Signature

__all__ = [
    "MAGNITUDE",
    "Magnitudes",
    "fill_magnitudes",
    "join_magnitudes",
    "layer_of_magnitude",
    "no_magnitudes",
    "of_rows",
    "side_kind",
    "side_kinds",
    "stack_magnitudes",
]

MAGNITUDE = "dora_magnitude"
"""The kind of side tensor, and the ending of its name after that of the layer."""


@dataclass(frozen=True, eq=False)
class Magnitudes:
    """The magnitudes of b LoRAs under one signature.

    Args:
        groups: one tensor for each of the signature's shape groups, zero where there is none.
        present: which layers of each LoRA have them, in signature order.
    """

    groups: tuple[Tensor, ...]  # (l, b, n) each
    present: Tensor  # (b, l) bool

    @property
    def nbytes(self) -> int:
        """Bytes of the magnitudes."""
        return sum(group.nbytes for group in self.groups)

    def to(
        self, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> "Magnitudes":
        """In another type, but never below float32, or on another device."""
        if dtype is not None:
            dtype = torch.promote_types(dtype, torch.float32)
        groups = tuple(group.to(device=device, dtype=dtype) for group in self.groups)
        return Magnitudes(groups, self.present.to(device=device))

    def select(self, rows: Tensor | slice) -> "Magnitudes":
        """Those of the LoRAs at some rows."""
        return Magnitudes(tuple(group[:, rows] for group in self.groups), self.present[rows])

    def put(self, rows: Tensor, others: "Magnitudes") -> None:
        """Write others' at some rows, in place: for whoever fills them piece by piece."""
        for group, other in zip(self.groups, others.groups, strict=True):
            group[:, rows] = other.to(group)
        self.present[rows] = others.present.to(self.present.device)

    def side(self, signature: Signature, row: int) -> dict[str, Side]:
        """Those of one LoRA as side tensors, by their names."""
        found = {}
        for group, shapes in zip(self.groups, signature.groups(), strict=True):
            for place, index in enumerate(shapes.indices):
                if self.present[row, index]:
                    name = f"{signature.layers[index].name}.{MAGNITUDE}"
                    found[name] = Side(MAGNITUDE, group[place, row])
        return found


def layer_of_magnitude(name: str) -> str:
    """The layer whose magnitudes a side tensor of that name holds.

    Example:
        >>> layer_of_magnitude("model.layers.0.self_attn.q_proj.dora_magnitude")
        'model.layers.0.self_attn.q_proj'
    """
    return name.rpartition(".")[0]


def of_rows(shape: Sequence[int], n: int) -> bool:
    """Whether magnitudes of that shape are those of a layer's n rows: (n,), (n, 1) or (n, 1, 1, 1).

    Example:
        >>> of_rows((8,), 8), of_rows((8, 1), 8), of_rows((1, 8), 8)
        (True, True, False)
    """
    return len(shape) > 0 and shape[0] == n and all(size == 1 for size in shape[1:])


def side_kind(kind: str, shape: Sequence[int]) -> str:
    """The kind of a side tensor, where magnitudes of columns are no magnitudes of rows.

    Example:
        >>> side_kind("dora_magnitude", (1, 8)), side_kind("bias", (8,))
        ('dora_magnitude of columns', 'bias')
    """
    columns = kind == MAGNITUDE and len(shape) > 1 and shape[0] == 1 and any(x > 1 for x in shape)
    return f"{kind} of columns" if columns else kind


def side_kinds(lora: LoRA) -> set[str]:
    """The kinds of a LoRA's side tensors, as `side_kind` tells them apart."""
    return {side_kind(side.kind, side.tensor.shape) for side in lora.side.values()}


def no_magnitudes(
    count: int,
    signature: Signature,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Magnitudes:
    """Room for the magnitudes of some LoRAs, of which none is there yet."""
    groups = tuple(
        torch.zeros(len(shapes), count, shapes.n, dtype=dtype, device=device)
        for shapes in signature.groups()
    )
    return Magnitudes(groups, torch.zeros(count, len(signature), dtype=torch.bool, device=device))


def stack_magnitudes(
    loras: Sequence[LoRA], signature: Signature, device: torch.device | str
) -> Magnitudes | None:
    """The magnitudes that LoRAs have for the layers of a signature; None where none has any."""
    if not any(lora.side for lora in loras):
        return None
    rows = [
        {layer_of_magnitude(k): s.tensor for k, s in lora.side.items() if s.kind == MAGNITUDE}
        for lora in loras
    ]

    def find(row: int, name: str, n: int) -> Tensor | None:
        found = rows[row].get(name)
        there = found is not None and name in loras[row].layers and of_rows(found.shape, n)
        return found if there else None

    return fill_magnitudes(find, len(loras), signature, device)


def fill_magnitudes(
    find: Callable[[int, str, int], Tensor | None],
    count: int,
    signature: Signature,
    device: torch.device | str = "cpu",
) -> Magnitudes | None:
    """Stack what `find(row, layer, n)` gives for each LoRA and layer; None where it gives nothing."""
    found: list[tuple[int, int, int, int, Tensor]] = []  # group, place, row, layer, magnitudes
    for number, shapes in enumerate(signature.groups()):
        for place, index in enumerate(shapes.indices):
            for row in range(count):
                one = find(row, signature.layers[index].name, shapes.n)
                if one is not None:
                    found.append((number, place, row, index, one))
    if not found:
        return None
    double = any(one.dtype == torch.float64 for *_, one in found)
    dtype = torch.float64 if double else torch.float32
    stacked = no_magnitudes(count, signature, dtype, device)
    for number, place, row, index, one in found:
        stacked.groups[number][place, row] = one.flatten()
        stacked.present[row, index] = True
    return stacked


def join_magnitudes(
    parts: Sequence[Magnitudes | None], counts: Sequence[int], signature: Signature
) -> Magnitudes | None:
    """One after the other, zero for parts without any; None where no part has some."""
    some = next((part for part in parts if part is not None), None)
    if some is None:
        return None
    like = some.groups[0]
    full = [
        part or no_magnitudes(count, signature, like.dtype, like.device)
        for part, count in zip(parts, counts, strict=True)
    ]
    groups = zip(*(part.groups for part in full), strict=True)
    return Magnitudes(
        tuple(torch.cat(group, 1) for group in groups), torch.cat([part.present for part in full])
    )
