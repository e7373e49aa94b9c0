"""The values in a file of weights: name -> tensor, on the CPU, in the types of the file; and back.

Safetensors are read by one copy into memory, never mapped: a mapped file that shrinks kills the process.
Pickles are read only through torch's restricted unpickler and only when the caller asked for it. What the
names mean is not known here (that is read.py and the dialects).
"""

import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from lorascope.errors import FormatError, HostileFileError, IntegrityError
from lorascope.io.disguise import disguise, refuse_disguise
from lorascope.io.header import (
    ITEM_BYTES,
    Header,
    TensorInfo,
    check_name,
    check_shape,
    check_tensor_count,
    open_regular,
    parse_header,
)

__all__ = ["TensorFile", "read_pickle", "read_safetensors", "write_safetensors"]

MAX_PICKLE_BYTES = 8 * 2**30
# How torch's restricted unpickler says that a pickle names a function or a class it must not load.
FORBIDDEN = re.compile(
    r"Unsupported (global|class)[^\n]*|[^\n]*not an allowed[^\n]*|unsupported GLOBAL [^\n]*"
)

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "BOOL": torch.bool,
        "U8": torch.uint8,
        "I8": torch.int8,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
        "U16": torch.uint16,
        "I16": torch.int16,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "U32": torch.uint32,
        "I32": torch.int32,
        "F32": torch.float32,
        "U64": torch.uint64,
        "I64": torch.int64,
        "F64": torch.float64,
    }
)
NAMES: Mapping[torch.dtype, str] = MappingProxyType({dtype: name for name, dtype in DTYPES.items()})


@dataclass(frozen=True, eq=False)
class TensorFile:
    """Tensors by name, with the writer's metadata (empty for pickles)."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_safetensors(path: Path | str, check: Callable[[Header], None] | None = None) -> TensorFile:
    """Read all tensors of a safetensors file whose header passes every check of header.py.

    The tensors share one buffer of the size of the data.

    Args:
        path: the file.
        check: called with the header before memory is taken for the data; it may raise.

    Raises:
        FileError: one of its kinds; see `lorascope.io.header.read_header`.
    """
    where = str(path)
    with open_regular(Path(path)) as file:
        header = parse_header(file, where)
        if check is not None:
            check(header)
        data = bytearray(header.file_bytes - header.data_start)
        read = file.readinto(data)
    if read != len(data):
        raise IntegrityError(
            f"Reading {where!r}: the file shrank from {len(data)} to {read} bytes."
        )
    tensors = {name: _view(data, info) for name, info in header.tensors.items()}
    return TensorFile(tensors, header.metadata)


def write_safetensors(
    path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file; the same tensors give the same bytes.

    The library writes several entries of metadata in an order that changes from call to call. Tensors are
    laid out as it does: larger items first (so that each is aligned), then by name. Raises OSError.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in names:
        tensor, begin = tensors[name], end
        end += tensor.nbytes
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with Path(path).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            data = tensors[name].detach().cpu().contiguous().reshape(-1)
            file.write(data.view(torch.uint8).numpy().data)


def read_pickle(
    path: Path | str, name_list: Callable[[list[Tensor]], dict[str, Tensor]] | None = None
) -> TensorFile:
    """Read a pickled map from name to tensor through torch's restricted unpickler (weights_only).

    Args:
        path: the file.
        name_list: gives names to the tensors of a pickled list; without it a list is refused.

    Raises:
        HostileFileError: it holds anything but plain tensors, or exceeds a cap.
        FormatError: it is no pickle, or a pickle of something else than a map from names to tensors.
    """
    where = str(path)
    with open_regular(Path(path)) as file:
        start = file.read(64)
    if disguise(start) != "pickle":
        refuse_disguise(start, where)
    file_bytes = Path(path).stat().st_size
    if file_bytes > MAX_PICKLE_BYTES:
        raise HostileFileError(
            f"Reading {where!r}: it has {file_bytes} bytes, expected at most {MAX_PICKLE_BYTES} in a pickle."
        )
    table = _unpickle(path, where)
    if isinstance(table, list) and name_list is not None:
        check_tensor_count(len(table), where)
        table = name_list(table)
    if not isinstance(table, Mapping):
        raise FormatError(
            f"Reading {where!r}: it is a pickled {type(table).__name__}, expected a map from name to tensor."
        )
    check_tensor_count(len(table), where)
    return TensorFile({_name(key, where): _plain(key, table[key], where) for key in table})


def _view(data: bytearray, info: TensorInfo) -> Tensor:
    dtype = DTYPES[info.dtype]
    if info.nbytes == 0:
        return torch.empty(info.shape, dtype=dtype)
    item_bytes = ITEM_BYTES[info.dtype]
    if info.begin % item_bytes:
        # a tensor must lie on a multiple of its item size; writers sort by size, so this is rare
        aligned = bytearray(data[info.begin : info.end])
        return torch.frombuffer(aligned, dtype=dtype).view(info.shape)
    count = info.nbytes // item_bytes
    return torch.frombuffer(data, dtype=dtype, count=count, offset=info.begin).view(info.shape)


def _unpickle(path: Path | str, where: str) -> Any:
    try:
        with warnings.catch_warnings():
            # torch warns of old pickles, which are the reason to be here
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever a bad file makes it trip over
        asked = FORBIDDEN.search(str(error))
        if asked:
            raise HostileFileError(
                f"Reading {where!r}: the pickle asks for more than plain tensors ({asked.group()[:200]}). It "
                "would have to run code. Try: convert it to safetensors with the tool that wrote it."
            ) from error
        raise FormatError(
            f"Reading {where!r}: it cannot be unpickled ({type(error).__name__}). "
            "The file is damaged, or no file of weights."
        ) from error


def _name(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise FormatError(f"Reading {where!r}: found the key {key!r:.60}, expected a name.")
    check_name(key, where)
    return key


def _plain(name: str, value: Any, where: str) -> Tensor:
    """The tensor, detached, if it is a dense one whose values are all really there."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        raise FormatError(
            f"Reading {name!r} of {where!r}: found a {type(value).__name__}, expected a dense tensor."
        )
    nbytes = check_shape(tuple(value.shape), value.element_size(), name, where)
    if value.dtype not in DTYPES.values() or value.device.type != "cpu":
        raise FormatError(
            f"Reading {name!r} of {where!r}: found {value.dtype} on {value.device}, expected numbers."
        )
    if nbytes > value.untyped_storage().nbytes():
        raise HostileFileError(
            f"Reading {name!r} of {where!r}: its shape {list(value.shape)} claims {nbytes} bytes, the file "
            f"holds {value.untyped_storage().nbytes()}."
        )
    return value.detach()
