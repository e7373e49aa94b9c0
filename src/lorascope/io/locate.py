"""From a path to one file of weights: which file of a folder, in which container, with which configuration.

File names and first bytes only: no header is parsed and no tensor library is loaded, so that facts from headers
and reading whole go the same way. What the keys mean is in read.py.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lorascope.errors import FormatError, HostileFileError
from lorascope.io.disguise import disguise
from lorascope.io.file_names import PICKLE_SUFFIXES, WEIGHT_NAMES
from lorascope.io.header import open_regular

__all__ = ["CONFIG_NAME", "Container", "Found", "locate"]

CONFIG_NAME = "adapter_config.json"
MOST_ENTRIES = 1000  # of a folder that are looked at for a message
Container = Literal["safetensors", "pickle", "gguf", "npz"]


@dataclass(frozen=True)
class Found:
    """What a path holds: the dialect, the file of weights, its container, and the configuration beside it."""

    format: str
    weights: Path
    container: Container
    config: Path | None


def locate(path: Path, *, allow_pickle: bool) -> Found:
    """The file of weights at a path; its dialect is taken to be PEFT, which only the keys can tell.

    Raises:
        FormatError: nothing is there, or a folder without weights or of several adapters.
        HostileFileError: it is a pickle and `allow_pickle` is not set.
    """
    if not path.exists():
        raise FormatError(f"Reading {str(path)!r}: no such file or folder. Try: check the path.")
    weights = _weights_in(path) if path.is_dir() else path
    container = _container(weights, allow_pickle=allow_pickle)
    config = weights.parent / CONFIG_NAME
    return Found("peft", weights, container, config if config.is_file() else None)


def _weights_in(folder: Path) -> Path:
    for name in WEIGHT_NAMES:
        if (folder / name).exists():
            return folder / name
    below = sorted(itertools.islice(_adapters_below(folder), 5))
    if below:
        raise FormatError(
            f"Reading {str(folder)!r}: it holds adapters in the folders {below}, expected one adapter. "
            "Try: name the folder of one of them."
        )
    present = sorted(entry.name for entry in itertools.islice(folder.iterdir(), MOST_ENTRIES))[:5]
    raise FormatError(
        f"Reading {str(folder)!r}: found {present}, expected {' or '.join(WEIGHT_NAMES)}. "
        "Try: name the file of weights itself."
    )


def _adapters_below(folder: Path) -> Iterable[str]:
    for entry in itertools.islice(folder.iterdir(), MOST_ENTRIES):
        if entry.is_dir() and any((entry / name).is_file() for name in WEIGHT_NAMES):
            yield entry.name


def _container(weights: Path, *, allow_pickle: bool) -> Container:
    with open_regular(weights) as file:
        start = file.read(64)
    suffix = weights.suffix.lower()
    if start.startswith(b"GGUF") and suffix != ".safetensors":
        return "gguf"
    if suffix == ".npz" and start:
        return "npz"
    # the reader of safetensors says what it is: an empty file, a web page, ..
    if suffix not in PICKLE_SUFFIXES or not start or disguise(start) not in ("pickle", None):
        return "safetensors"
    if not allow_pickle:
        raise HostileFileError(
            f"Reading {str(weights)!r}: {weights.suffix} files are pickles, which can run code when they are "
            "loaded. Try: a .safetensors file, or allow_pickle=True (--allow-pickle) to read plain tensors "
            "through torch's restricted unpickler."
        )
    return "pickle"
