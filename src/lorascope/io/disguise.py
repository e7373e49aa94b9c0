"""Files that carry the extension of weights and are something else, told by their first bytes.

Standard library only, like header.py, which asks here when the first eight bytes are no length of a header.
"""

from collections.abc import Mapping
from types import MappingProxyType

from lorascope.errors import FormatError, HostileFileError

__all__ = ["disguise", "refuse_disguise"]

DISGUISES: Mapping[str, str] = MappingProxyType(
    {
        "lfs": "it is a Git LFS pointer, the weights were never fetched. Try: git lfs pull.",
        "html": "it is a web page, probably a saved error or login page. Try: download it again.",
        "pickle": "it is a pickle (or a zip), which can run code when it is loaded. Try: a .safetensors "
        "file, or allow_pickle=True (--allow-pickle) on a .bin or .pt file that you trust.",
        "gguf": "it is a GGUF file, not safetensors.",
        "json": "it is JSON text, not safetensors.",
    }
)


def disguise(start: bytes) -> str | None:
    """What a file is, from its first bytes, if it is one of the kinds that pass for weights."""
    text = start.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "lfs"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "html"
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return "pickle"
    if start.startswith(b"GGUF"):
        return "gguf"
    return "json" if text.startswith(b"{") else None


def refuse_disguise(start: bytes, where: str) -> None:
    """Raises FormatError or HostileFileError, saying what the file is, for what `disguise` knows."""
    kind = disguise(start)
    if kind == "pickle":
        raise HostileFileError(f"Reading {where!r}: {DISGUISES[kind]}")
    if kind is not None:
        raise FormatError(f"Reading {where!r}: {DISGUISES[kind]}")
