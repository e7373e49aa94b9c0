"""Bytes of files that hold nothing but shapes: safetensors, GGUF, arrays, pickles, made by hand."""

import io
import json
import math
import struct
import zipfile
from typing import Any

import torch

GGUF_FLOAT, GGUF_STRING, GGUF_ARRAY = 6, 8, 9
ADAPTER = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 4.0}


def zeros(shapes: dict[str, tuple[int, ...]], dtype: str = "F32", **metadata: str) -> bytes:
    """A safetensors file of zeros."""
    size, end = {"F32": 4, "I8": 1}[dtype], 0
    table: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    for key, shape in shapes.items():
        begin, end = end, end + size * math.prod(shape)
        table[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(table).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end)


def module(name: str, **shapes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of one module; two underscores in a slot stand for a dot."""
    return {f"{name}.{slot.replace('__', '.')}": shape for slot, shape in shapes.items()}


def text(value: bytes | str, claimed: int | None = None) -> bytes:
    """A string of GGUF."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw) if claimed is None else claimed) + raw


def field(key: str, value: object) -> bytes:
    """A key-value of GGUF; bytes are taken as they are, behind the key."""
    if isinstance(value, bytes):
        return text(key) + value
    if isinstance(value, str):
        return text(key) + struct.pack("<I", GGUF_STRING) + text(value)
    return text(key) + struct.pack("<If", GGUF_FLOAT, value)


def info(name: str, *axes: int, kind: int = 0, offset: int = 0) -> bytes:
    """What GGUF says of a tensor, axes innermost first."""
    return text(name) + struct.pack(f"<I{len(axes)}QIQ", len(axes), *axes, kind, offset)


def gguf(
    fields: dict[str, object] | None = None,
    infos: tuple[bytes, ...] = (),
    *,
    version: int = 3,
    pairs: int | None = None,
    data: int = 64,
) -> bytes:
    """A GGUF file with `data` zeros behind its header."""
    table = ADAPTER if fields is None else fields
    raw = b"GGUF" + struct.pack("<IQQ", version, len(infos), len(table) if pairs is None else pairs)
    raw += b"".join(field(key, value) for key, value in table.items()) + b"".join(infos)
    return raw + bytes(-len(raw) % 32) + bytes(data)


def array(descr: str = "<f4", shape: tuple[int, ...] = (2, 2), values: int = 16) -> bytes:
    """A .npy file."""
    head = str({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(values)


def archive(entry: bytes, *, compressed: bool = False) -> bytes:
    """An .npz file of one entry."""
    stream = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", kind) as file:
        file.writestr("model.layers.0.self_attn.q_proj.lora_a.npy", entry)
    return stream.getvalue()


def pickled(value: object) -> bytes:
    """What torch.save writes."""
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()
