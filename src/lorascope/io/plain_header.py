"""A safetensors header as all common writers write it, taken apart by one pattern: a third of the time of JSON.

    {"__metadata__":{..},"name":{"dtype":"F16","shape":[4,8],"data_offsets":[0,64]},..}

No spaces, keys in this order. That the lengths of all matches add up to the text proves that nothing lies
between them. What has another form, or is wrong in any way, is None here: the parser in header.py is the one
that can say what it found. Standard library only.
"""

import json
import re
from typing import Any, NoReturn

__all__ = ["Entry", "scan_plain"]

Entry = tuple[str, str, str, str, str, str]  # name, type, axes, begin, end, the sign that follows

MAX_BYTES = 2 * 2**20  # parsing twice what is wrong must stay cheap
METADATA = '{"__metadata__":'
NATURAL = r"(?:0|[1-9]\d{0,17})"
ENTRY = re.compile(
    r'"([^"\\]{1,512})":\{"dtype":"(\w+)",'
    rf'"shape":\[((?:{NATURAL}(?:,{NATURAL}){{0,7}})?)\],'
    rf'"data_offsets":\[({NATURAL}),({NATURAL})\]\}}([,}}])',
    re.ASCII,
)
SIGNS = len('"":{"dtype":"","shape":[],"data_offsets":[,]}')


def scan_plain(raw: bytes) -> tuple[list[Entry], Any] | None:
    """The entries of a plain header and its metadata (not checked yet), None if it is of another form.

    Example:
        >>> scan_plain(b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}')
        ([('x', 'F32', '1', '0', '4', '}')], {})
    """
    if len(raw) > MAX_BYTES or not raw.startswith(b'{"') or b'"/' in raw or b".." in raw:
        return None
    try:
        text = raw.decode().rstrip(" ")
        start = 1
        metadata: Any = {}
        if text.startswith(METADATA):
            metadata, start = DECODER.raw_decode(text, len(METADATA))
            start += 1
            if text[start - 1 : start] != ",":
                return None
    except (ValueError, RecursionError):
        return None
    entries: list[Entry] = ENTRY.findall(text, start)
    signs = ",".join("" for _ in entries) + "}"
    if not entries or "".join(entry[5] for entry in entries) != signs:
        return None
    whole = len("".join(map("".join, entries))) + len(entries) * SIGNS
    names = {entry[0] for entry in entries}
    plain = (
        whole == len(text) - start and len(names) == len(entries) and "".join(names).isprintable()
    )
    return (entries, metadata) if plain and "__metadata__" not in names else None


def once(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """The table of some pairs. Raises ValueError for a key that stands twice."""
    table = dict(items)
    if len(table) < len(items):
        raise ValueError("a key stands twice")
    return table


def never(text: str) -> NoReturn:
    """Raises ValueError: NaN is no JSON."""
    raise ValueError(text)


DECODER = json.JSONDecoder(object_pairs_hook=once, parse_constant=never)
