"""The only room that opens weight files. Its names load on first use, so that header.py reaches no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorascope.io.digest import file_sha256
    from lorascope.io.header import Header, TensorInfo, read_header
    from lorascope.io.locate import Found
    from lorascope.io.read import read_lora, sniff
    from lorascope.io.shard_writer import ZooWriter
    from lorascope.io.shards import Zoo, open_zoo
    from lorascope.io.write import write_lora

__all__ = [
    "Found",
    "Header",
    "TensorInfo",
    "Zoo",
    "ZooWriter",
    "file_sha256",
    "open_zoo",
    "read_header",
    "read_lora",
    "sniff",
    "write_lora",
]

PLACES = {
    "Found": "locate",
    "Header": "header",
    "TensorInfo": "header",
    "Zoo": "shards",
    "ZooWriter": "shard_writer",
    "file_sha256": "digest",
    "open_zoo": "shards",
    "read_header": "header",
    "read_lora": "read",
    "sniff": "read",
    "write_lora": "write",
}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
