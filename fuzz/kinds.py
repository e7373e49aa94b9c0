"""What bytes of the fuzzer become: a file of some suffix, as they are or mended.

Nearly every change of a safetensors file breaks its offsets, and nothing behind the header is reached. Mended,
its header is taken for what it says of names, types and shapes, and gets the offsets and the data that fit.
"""

import json
import math
from collections.abc import Callable

MAX_BYTES = 1 << 16  # of one tensor


def as_it_is(data: bytes) -> bytes:
    """The file itself."""
    return data


def mend(data: bytes) -> bytes:
    """A safetensors file with offsets and data that fit its header; as it is where the header is no table."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        return data
    if not isinstance(header, dict):
        return data
    end = 0
    for name, entry in header.items():
        if name != "__metadata__" and isinstance(entry, dict):
            begin, end = end, end + size(entry)
            entry["data_offsets"] = [begin, end]
    text = json.dumps(header, separators=(",", ":")).encode()
    values = data[8 + length :] or b"\0"
    return len(text).to_bytes(8, "little") + text + (values * (end // len(values) + 1))[:end]


def size(entry: dict[str, object]) -> int:
    """The bytes that a type and a shape take, a few where they make no sense."""
    item = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8, "I64": 8}.get(str(entry.get("dtype")), 1)
    shape = entry.get("shape")
    axes = shape if isinstance(shape, list) and all(type(axis) is int for axis in shape) else [1]
    return max(0, min(item * math.prod(axes), MAX_BYTES))


# The first byte of the fuzzer's input picks one.
KINDS: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    (".safetensors", mend),
    (".safetensors", as_it_is),
    (".gguf", as_it_is),
    (".npz", as_it_is),
    (".bin", as_it_is),
    (".pt", as_it_is),
)
