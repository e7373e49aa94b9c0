"""The container GGUF: header, key-values and tensors, checked before anything is allocated for them.

    "GGUF" | version u32 | tensors u64 | key-values u64 | key-values | infos | padding | data
    info = name, dims u32, dims (innermost first), type u32, offset u64

F32, F16, BF16 and F64 are read here; other types are dequantised by the `gguf` package (extra `gguf`). What the
names mean is in dialects/llama_cpp.py. Source: ggml, docs/gguf.md, version 3.
"""

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorascope.errors import FormatError, HostileFileError, IntegrityError, MissingExtraError
from lorascope.io.header import check_name, check_shape, check_tensor_count, open_regular

__all__ = ["GgufFile", "read_gguf"]

MAX_PAIRS = 10_000
MAX_STRING = 4 << 20
MAX_ARRAY = 1 << 20
MAX_HEADER = 64 << 20
MAX_DIMS = 4
MAX_EXPANSION = 1 << 32  # bytes of all tensors once they are dequantised
# Types of key-values: 8 is a string, 9 an array.
NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
FLOATS = {0: torch.float32, 1: torch.float16, 28: torch.float64, 30: torch.bfloat16}


@dataclass(frozen=True, eq=False)
class GgufFile:
    """Key-values and tensors by name. Shapes are outermost first, as torch has them."""

    fields: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Info:
    shape: tuple[int, ...]
    type: int
    offset: int


class _Cursor:
    """Reads little-endian values one after the other and never past the end."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data, self.where, self.place = data, where, 4

    def take(self, count: int) -> bytes:
        end = self.place + count
        if end > len(self.data):
            raise IntegrityError(
                f"Reading {self.where!r}: its header ends at byte {len(self.data)}, expected at least {end}. "
                "The file is cut short or damaged. Try: download it again."
            )
        piece = self.data[self.place : end]
        self.place = end
        return piece

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]

    def string(self) -> str:
        length = self.number("Q")
        if length > MAX_STRING:
            raise HostileFileError(f"Reading {self.where!r}: a string claims {length} bytes.")
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(f"Reading {self.where!r}: a string is no UTF-8.") from error

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind == 8:
            return self.string()
        if kind != 9 or depth > 2:
            raise FormatError(f"Reading {self.where!r}: a value is of the unknown type {kind}.")
        inner, count = self.number("I"), self.number("Q")
        if count > MAX_ARRAY:
            raise HostileFileError(f"Reading {self.where!r}: an array claims {count} values.")
        return [self.value(inner, depth + 1) for _ in range(count)]


def read_gguf(path: Path | str) -> GgufFile:
    """Read a GGUF file.

    Raises:
        FormatError: it is no GGUF file, or breaks the format.
        HostileFileError: a count or a size is above its cap.
        IntegrityError: it is cut short.
        MissingExtraError: a tensor is quantised and the `gguf` package is not installed.
    """
    where = str(path)
    with open_regular(Path(path)) as file:
        file_bytes = os.fstat(file.fileno()).st_size
        cursor = _Cursor(file.read(MAX_HEADER), where)
        if cursor.data[:4] != b"GGUF":
            raise FormatError(f"Reading {where!r}: it is no GGUF file.")
        fields, infos = _parse(cursor)
        alignment = fields.get("general.alignment", 32)
        if type(alignment) is not int or not 1 <= alignment <= 1 << 16:
            raise FormatError(f"Reading {where!r}: its alignment is {alignment!r:.40}.")
        start = -(-cursor.place // alignment) * alignment
        sizes = _check_sizes(infos, file_bytes - start, where)
        tensors = {}
        for name, info in infos.items():
            file.seek(start + info.offset)
            raw = bytearray(file.read(sizes[name]))
            if len(raw) != sizes[name]:
                raise IntegrityError(f"Reading {name!r} of {where!r}: the file is cut short.")
            tensors[name] = _tensor(raw, info, name, where)
    return GgufFile(fields, tensors)


def _parse(cursor: _Cursor) -> tuple[dict[str, Any], dict[str, _Info]]:
    version, count, pairs = cursor.number("I"), cursor.number("Q"), cursor.number("Q")
    if version not in (2, 3):
        raise FormatError(f"Reading {cursor.where!r}: GGUF version {version}, expected 2 or 3.")
    check_tensor_count(count, cursor.where)
    if pairs > MAX_PAIRS:
        raise HostileFileError(f"Reading {cursor.where!r}: it claims {pairs} key-values.")
    fields: dict[str, Any] = {}
    for _ in range(pairs):
        key = cursor.string()
        check_name(key, cursor.where)
        fields[key] = cursor.value(cursor.number("I"))
    infos: dict[str, _Info] = {}
    for _ in range(count):
        name = cursor.string()
        check_name(name, cursor.where)
        dims = cursor.number("I")
        if name in infos or dims > MAX_DIMS:
            raise FormatError(
                f"Reading {cursor.where!r}: the tensor {name!r} stands twice or has {dims} dimensions."
            )
        shape = tuple(reversed([cursor.number("Q") for _ in range(dims)]))
        infos[name] = _Info(shape, cursor.number("I"), cursor.number("Q"))
    return fields, infos


def _check_sizes(infos: Mapping[str, _Info], data_bytes: int, where: str) -> dict[str, int]:
    """The bytes of each tensor in the file, all of them inside it and not absurd once they are floats."""
    sizes, total = {}, 0
    for name, info in infos.items():
        total += check_shape(info.shape, 4, name, where)
        sizes[name] = _stored_bytes(info, name, where)
        if info.offset + sizes[name] > data_bytes:
            raise IntegrityError(
                f"Reading {name!r} of {where!r}: it ends at byte {info.offset + sizes[name]} of the data, "
                f"which has {data_bytes}. The file is cut short. Try: download it again."
            )
    if total > MAX_EXPANSION:
        raise HostileFileError(f"Reading {where!r}: its tensors take {total} bytes as floats.")
    return sizes


def _stored_bytes(info: _Info, name: str, where: str) -> int:
    if info.type in FLOATS:
        return math.prod(info.shape) * FLOATS[info.type].itemsize
    constants = _package(where).constants
    try:
        block, block_bytes = constants.GGML_QUANT_SIZES[constants.GGMLQuantizationType(info.type)]
    except (ValueError, KeyError) as error:
        raise FormatError(
            f"Reading {name!r} of {where!r}: its type {info.type} is unknown."
        ) from error
    if not info.shape or info.shape[-1] % block:
        raise FormatError(
            f"Reading {name!r} of {where!r}: rows of {info.shape[-1:]} are no multiple of blocks of {block}."
        )
    return math.prod(info.shape) // block * block_bytes


def _tensor(raw: bytearray, info: _Info, name: str, where: str) -> Tensor:
    if not raw:
        return torch.empty(info.shape)
    if info.type in FLOATS:
        return torch.frombuffer(raw, dtype=FLOATS[info.type]).reshape(info.shape)
    import numpy as np

    package = _package(where)
    kind = package.constants.GGMLQuantizationType(info.type)
    try:
        rows = np.frombuffer(raw, dtype=np.uint8).reshape(math.prod(info.shape[:-1]), -1)
        values = package.quants.dequantize(rows, kind)
    except (NotImplementedError, ValueError) as error:
        raise FormatError(
            f"Reading {name!r} of {where!r}: its type {kind.name} cannot be dequantised."
        ) from error
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).reshape(info.shape)


def _package(where: str) -> Any:
    try:
        import gguf
        import gguf.quants
    except ImportError as error:
        raise MissingExtraError("gguf", "gguf", f"Reading the quantised {where!r}") from error
    return gguf
