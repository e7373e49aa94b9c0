"""The header of a safetensors file, checked before a tensor exists.

    file = length (8 bytes, little endian) | header (JSON) | data
    header = {name: {"dtype": .., "shape": [..], "data_offsets": [begin, end]}, "__metadata__": {str: str}}

This is the front door: standard library only, so that a bad file is refused before anything is allocated
for it. It reads names, types, shapes and metadata; it reads no values (that is tensors.py) and knows no
dialect of LoRA files (that is read.py). Offsets count from the start of the data and must tile it.
"""

import itertools
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

from lorascope.errors import FormatError, HostileFileError, IntegrityError
from lorascope.io.disguise import refuse_disguise
from lorascope.io.plain_header import scan_plain

__all__ = [
    "ITEM_BYTES",
    "Header",
    "TensorInfo",
    "check_name",
    "check_shape",
    "check_tensor_count",
    "open_regular",
    "parse_header",
    "parse_json",
    "read_header",
]

MAX_HEADER_BYTES = 25_000_000  # the limit of the Hugging Face Hub
MAX_TENSORS = 50_000
MAX_DIMS = 8
#: Longer than any axis that fits in memory: only a trick with empty tensors needs more.
MAX_DIM = 2**40
MAX_TENSOR_BYTES = 2**63 - 1
MAX_NAME_CHARACTERS = 512
MAX_METADATA_ENTRIES = 10_000
MAX_METADATA_BYTES = 4 * 2**20  # one value; sd-scripts writes tag tables of up to about a megabyte
MAX_JSON_DEPTH = 4  # header > tensor > shape > number, with one to spare
MAX_JSON_COMMAS = MAX_TENSORS * (MAX_DIMS + 4) + MAX_METADATA_ENTRIES
MAX_STRINGS = MAX_TENSORS * 5 + MAX_METADATA_ENTRIES * 2

# Types whose size is a whole number of bytes. Sub-byte types (F4, F6) pack several values in one byte.
ITEM_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "BOOL": 1,
        "U8": 1,
        "I8": 1,
        "F8_E4M3": 1,
        "F8_E5M2": 1,
        "U16": 2,
        "I16": 2,
        "F16": 2,
        "BF16": 2,
        "U32": 4,
        "I32": 4,
        "F32": 4,
        "U64": 8,
        "I64": 8,
        "F64": 8,
    }
)

STRINGS = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
BRACKETS = re.compile(r"[\[\]{}]")


class TensorInfo(NamedTuple):
    """Type, shape and place of one tensor; `begin` and `end` count bytes from the start of the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.end - self.begin


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself, all of it checked.

    Args:
        tensors: name -> type, shape and place, in the order of the file.
        metadata: the free text of the writer. Hostile text: escape it before it is shown.
        data_start: byte of the file at which the data begins.
        file_bytes: size of the file.
    """

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_start: int
    file_bytes: int


def read_header(path: Path | str) -> Header:
    """Read and check the header of a safetensors file, and nothing else of it.

    Raises:
        FormatError: it is no safetensors file, or its header breaks the format.
        HostileFileError: a size or a count is above its cap, or it is a pickle in disguise.
        IntegrityError: the file is shorter or longer than its header says.

    Example:
        >>> read_header("adapter_model.safetensors").tensors  # doctest: +SKIP
    """
    with open_regular(Path(path)) as file:
        return parse_header(file, str(path))


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading. Raises FormatError for what is none (a pipe would block)."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise FormatError(
            f"Opening {str(path)!r}: {error.strerror or error}. Try: check the path and its permissions."
        ) from error
    if not stat.S_ISREG(mode):
        raise FormatError(
            f"Opening {str(path)!r}: it is no regular file. Expected a file of weights."
        )
    try:
        return path.open("rb")
    except OSError as error:
        raise FormatError(f"Opening {str(path)!r}: {error.strerror or error}.") from error


def parse_header(file: BufferedReader, where: str) -> Header:
    """Read and check the header from an open file, which is left at the start of the data."""
    file_bytes = os.fstat(file.fileno()).st_size
    start = file.read(64)
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or length > MAX_HEADER_BYTES:
        # only here: a header of 640 bytes makes a good file start like a pickle
        refuse_disguise(start, where)
    if len(start) < 8:
        raise IntegrityError(f"Reading {where!r}: it has {file_bytes} bytes, no room for a header.")
    if length > MAX_HEADER_BYTES:
        raise HostileFileError(
            f"Reading {where!r}: its header claims {length} bytes, expected at most {MAX_HEADER_BYTES}. "
            "It is no safetensors file, or one made to exhaust memory."
        )
    if 8 + length > file_bytes:
        raise IntegrityError(
            f"Reading {where!r}: its header claims {length} bytes, but the file has {file_bytes}. "
            "The file is cut short. Try: download it again."
        )
    file.seek(8)
    raw = file.read(length)
    tensors, metadata = _parse_entries(raw, where)
    _check_tiling(tensors, file_bytes - 8 - length, where)
    return Header(MappingProxyType(tensors), MappingProxyType(metadata), 8 + length, file_bytes)


def parse_json(raw: bytes, where: str) -> Any:
    """Parse JSON strictly: UTF-8, no key twice, no NaN. The caller caps the size first.

    A byte order mark, which editors on Windows leave, is passed over.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(items)
        if len(table) < len(items):
            seen: set[str] = set()
            twice = next(key for key, _ in items if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise FormatError(f"Reading {where!r}: the key {twice!r} stands twice in its JSON.")
        return table

    def constant(text: str) -> NoReturn:
        raise FormatError(f"Reading {where!r}: its JSON holds {text}, which is no JSON number.")

    try:
        return json.loads(raw.decode("utf-8-sig"), object_pairs_hook=pairs, parse_constant=constant)
    except RecursionError as error:
        raise HostileFileError(f"Reading {where!r}: its JSON is nested too deep.") from error
    # JSONDecodeError, UnicodeDecodeError, an integer of thousands of digits
    except ValueError as error:
        raise FormatError(f"Reading {where!r}: its JSON cannot be parsed: {error}.") from error


def check_name(name: str, where: str) -> None:
    """Refuse names that are too long, hold control characters or look like a path out of a folder."""
    if len(name) > MAX_NAME_CHARACTERS:
        raise HostileFileError(
            f"Reading {where!r}: a name has {len(name)} characters ({name[:60]!r}...), "
            f"expected at most {MAX_NAME_CHARACTERS}."
        )
    if not name or not name.isprintable():
        raise HostileFileError(
            f"Reading {where!r}: the name {name!r} is empty or holds control characters."
        )
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
        raise HostileFileError(f"Reading {where!r}: the name {name!r} is a path, expected a key.")


def check_shape(shape: tuple[int, ...], item_bytes: int, name: str, where: str) -> int:
    """The bytes of a tensor of that shape. Raises HostileFileError above the caps."""
    if len(shape) > MAX_DIMS:
        raise HostileFileError(
            f"Reading {name!r} of {where!r}: it has {len(shape)} dimensions, expected at most {MAX_DIMS}."
        )
    # an empty tensor must not hide a product that overflows elsewhere
    filled = math.prod(max(size, 1) for size in shape) * item_bytes
    if any(size > MAX_DIM for size in shape) or filled > MAX_TENSOR_BYTES:
        raise HostileFileError(
            f"Reading {name!r} of {where!r}: its shape {list(shape)} is larger than any memory."
        )
    return math.prod(shape) * item_bytes


def check_tensor_count(count: int, where: str) -> None:
    """Raises HostileFileError above the cap on the number of tensors."""
    if count > MAX_TENSORS:
        raise HostileFileError(
            f"Reading {where!r}: it holds {count} tensors, expected at most {MAX_TENSORS}."
        )


def _parse_entries(raw: bytes, where: str) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    plain = _parse_plain(raw, where)
    if plain is not None:
        return plain
    _check_structure(raw, where)
    table: dict[str, Any] = parse_json(raw, where)  # it starts with a brace
    metadata = table.pop("__metadata__", None)
    # MLX writes null where it has none
    metadata = _check_metadata({} if metadata is None else metadata, where)
    check_tensor_count(len(table), where)
    return {name: _parse_tensor(name, entry, where) for name, entry in table.items()}, metadata


def _parse_plain(raw: bytes, where: str) -> tuple[dict[str, TensorInfo], dict[str, str]] | None:
    """Names and places of a header of the plain form; None for what the parser below has to look at."""
    found = scan_plain(raw)
    if found is None or len(found[0]) > MAX_TENSORS or not isinstance(found[1], dict):
        return None
    sizes: dict[tuple[str, str], tuple[tuple[int, ...], int]] = {}
    tensors: dict[str, TensorInfo] = {}
    for name, dtype, axes, first, after, _ in found[0]:
        size = sizes.get((dtype, axes))
        if size is None:
            if dtype not in ITEM_BYTES:
                return None
            shape = tuple(map(int, axes.split(","))) if axes else ()
            size = sizes[dtype, axes] = shape, check_shape(shape, ITEM_BYTES[dtype], name, where)
        begin, end = int(first), int(after)
        if end - begin != size[1]:
            return None
        tensors[name] = TensorInfo(dtype, size[0], begin, end)
    return tensors, _check_metadata(found[1], where)


def _check_structure(raw: bytes, where: str) -> None:
    """Bound what json.loads will build (many times the text's size) by a look at the brackets alone."""
    if not raw.startswith(b"{"):
        raise FormatError(f"Reading {where!r}: its header starts with {raw[:8]!r}, expected '{{'.")
    bare = _without_strings(raw.decode("utf-8", errors="replace"), where)
    # tensors, the table itself and its metadata each open one brace
    check_tensor_count(bare.count("{") - 2, where)
    check_tensor_count(bare.count("[") // 2, where)
    depth = 0
    for bracket in BRACKETS.finditer(bare):
        depth += 1 if bracket.group() in "[{" else -1
        if depth > MAX_JSON_DEPTH:
            raise HostileFileError(
                f"Reading {where!r}: its header is nested deeper than {MAX_JSON_DEPTH} levels."
            )
    if bare.count(",") > MAX_JSON_COMMAS:
        raise HostileFileError(
            f"Reading {where!r}: its header has {bare.count(',')} entries, expected at most "
            f"{MAX_JSON_COMMAS}."
        )


def _without_strings(text: str, where: str) -> str:
    pieces, end = [], 0
    for count, string in enumerate(STRINGS.finditer(text)):
        if count > MAX_STRINGS:
            raise HostileFileError(
                f"Reading {where!r}: its header has more than {MAX_STRINGS} strings, too many for "
                f"{MAX_TENSORS} tensors."
            )
        pieces.append(text[end : string.start()])
        end = string.end()
    return "".join(pieces) + text[end:]


def _check_metadata(metadata: Any, where: str) -> dict[str, str]:
    if not isinstance(metadata, dict):
        raise FormatError(f"Reading {where!r}: its metadata is {metadata!r:.60}, expected a table.")
    if len(metadata) > MAX_METADATA_ENTRIES:
        raise HostileFileError(
            f"Reading {where!r}: it has {len(metadata)} metadata entries, "
            f"expected at most {MAX_METADATA_ENTRIES}."
        )
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise FormatError(
                f"Reading {where!r}: metadata {key!r:.60} is {value!r:.60}, expected a string."
            )
        # four bytes per character at most; exact only where it matters
        if len(value) * 4 > MAX_METADATA_BYTES and len(value.encode()) > MAX_METADATA_BYTES:
            raise HostileFileError(
                f"Reading {where!r}: metadata {key!r:.60} has {len(value.encode())} bytes, "
                f"expected at most {MAX_METADATA_BYTES}."
            )
    return metadata


def _parse_tensor(name: str, entry: Any, where: str) -> TensorInfo:
    check_name(name, where)
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(
            f"Reading {name!r} of {where!r}: found {entry!r:.80}, expected dtype, shape and data_offsets."
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise FormatError(
            f"Reading {name!r} of {where!r}: its type is {dtype!r:.40}, expected one of "
            f"{', '.join(ITEM_BYTES)}."
        )
    if not _is_naturals(shape) or not _is_naturals(offsets) or len(offsets) != 2:
        raise FormatError(
            f"Reading {name!r} of {where!r}: shape {shape!r:.60} and offsets {offsets!r:.60}, expected "
            "lists of whole numbers from 0, two for the offsets."
        )
    nbytes = check_shape(tuple(shape), ITEM_BYTES[dtype], name, where)
    begin, end = offsets
    if end - begin != nbytes:
        raise IntegrityError(
            f"Reading {name!r} of {where!r}: {dtype} {list(shape)} takes {nbytes} bytes, "
            f"its offsets {begin} to {end} hold {end - begin}."
        )
    return TensorInfo(dtype, tuple(shape), begin, end)


def _is_naturals(value: Any) -> bool:
    # bool is a kind of int in Python, not in JSON
    return isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)


def _check_tiling(tensors: Mapping[str, TensorInfo], data_bytes: int, where: str) -> None:
    """The tensors cover the data once: no overlap, no hole, nothing before or after."""
    reached, previous = 0, "the start of the data"
    entries = list(tensors.items())
    if any(one[1].end != other[1].begin for one, other in itertools.pairwise(entries)):
        entries.sort(key=lambda item: (item[1].begin, item[1].end))  # most are in order
    for name, info in entries:
        if info.begin != reached:
            kind = "overlaps" if info.begin < reached else "leaves a hole after"
            raise IntegrityError(
                f"Reading {where!r}: {name!r} begins at byte {info.begin} and {kind} {previous!r}, "
                f"which ends at {reached}."
            )
        reached, previous = info.end, name
    if reached > data_bytes:
        raise IntegrityError(
            f"Reading {where!r}: its tensors need {reached} bytes, the file holds {data_bytes}. "
            "The file is cut short. Try: download it again."
        )
    if reached < data_bytes:
        raise IntegrityError(
            f"Reading {where!r}: {data_bytes - reached} bytes follow its last tensor, which no key names."
        )
