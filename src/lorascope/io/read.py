"""`read_lora`: a path -> a `LoRA`, whatever the format, or an error that says why not.

    path --sniff--> Found(format, weights, config) --read--> TensorFile --FORMATS[format]--> LoRA

`sniff` looks at file names, first bytes and the keys of a header, never at values. The table `FORMATS` is the
list of dialects; `UNREAD` names dialects that are recognised and not read yet.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch

from lorascope.core.lora import LoRA
from lorascope.errors import FormatError, HostileFileError
from lorascope.io.disguise import disguise
from lorascope.io.header import open_regular, read_header
from lorascope.io.peft import read_peft
from lorascope.io.peft_config import PeftConfig, read_config
from lorascope.io.tensors import TensorFile, read_pickle, read_safetensors

__all__ = ["FORMATS", "Found", "read_lora", "sniff"]

CONFIG_NAME = "adapter_config.json"
# What a folder may hold, best first.
WEIGHT_NAMES = ("adapter_model.safetensors", "adapter_model.bin")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class Found:
    """What `sniff` found: the dialect, the file of weights, its container, and the configuration beside it."""

    format: str
    weights: Path
    container: Literal["safetensors", "pickle"]
    config: Path | None


def _read_peft(file: TensorFile, found: Found) -> LoRA:
    where = str(found.weights)
    config = read_config(found.config) if found.config else PeftConfig(None, where)
    return read_peft(file, config, where)


FORMATS: Mapping[str, Callable[[TensorFile, Found], LoRA]] = MappingProxyType({"peft": _read_peft})

# By the first key that matches, in this order: PEFT's mark is a part of some others'.
UNREAD: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "LyCORIS": re.compile(r"\.(hada_w1|hada_w2|lokr_w1|lokr_w2|oft_blocks|w_norm)|^lycoris_"),
        "kohya": re.compile(r"^lora_(unet|te\d?|transformer)_|\.lora_(down|up)\.weight$"),
        "diffusers (old)": re.compile(r"_lora\.(down|up)\.weight$|\.lora\.(down|up)\.weight$"),
        "diffusers (text encoder)": re.compile(r"\.lora_linear_layer\.(down|up)\.weight$"),
        "XLabs": re.compile(r"\.processor\.\w+_lora\d\."),
        "cloneofsimo": re.compile(r"^(unet|text_encoder):\d+:(up|down)$"),
        "MLX or torchtune": re.compile(r"\.lora_[ab](\.weight)?$"),
    }
)
PEFT_MARK = re.compile(r"(^|\.)lora_(embedding_)?[AB](\.|$)")


def read_lora(
    path: Path | str, *, allow_pickle: bool = False, dtype: torch.dtype | None = None
) -> LoRA:
    """Read a LoRA from a folder or a file.

    Args:
        path: a folder with adapter_model.safetensors and adapter_config.json, or one file of weights.
        allow_pickle: read .bin and .pt files, through torch's restricted unpickler.
        dtype: convert the factors; by default they keep the type of the file, or fp32 where a scale went in.

    Raises:
        FormatError: it is no LoRA, of an unknown dialect, or its tensors do not go together.
        HostileFileError: a size is above its cap, or it is a pickle and `allow_pickle` is not set.
        IntegrityError: the file is cut short or its header contradicts itself.

    Example:
        >>> lora = read_lora("my-adapter")  # doctest: +SKIP
        >>> lora.provenance.ambiguities  # doctest: +SKIP
        ()
    """
    found = _locate(Path(path), allow_pickle=allow_pickle)
    where = str(found.weights)
    if found.container == "pickle":
        file = read_pickle(found.weights)
        _dialect(file.tensors, where)
    else:
        # the keys are looked at before the values are read: a whole model is refused at once
        file = read_safetensors(found.weights, lambda header: _dialect(header.tensors, where))
    lora = FORMATS[found.format](file, found)
    return lora if dtype is None else lora.to(dtype)


def sniff(path: Path | str) -> Found:
    """Say what a folder or a file of weights is, without reading values.

    The dialect of a pickle is not looked into: it is taken to be PEFT.

    Raises:
        FileError: one of its kinds, as `read_lora` would.
    """
    found = _locate(Path(path), allow_pickle=True)
    if found.container == "safetensors":
        _dialect(read_header(found.weights).tensors, str(found.weights))
    return found


def _locate(path: Path, *, allow_pickle: bool) -> Found:
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
    present = sorted(entry.name for entry in itertools.islice(folder.iterdir(), 1000))[:5]
    raise FormatError(
        f"Reading {str(folder)!r}: found {present}, expected {' or '.join(WEIGHT_NAMES)}. "
        "Try: name the file of weights itself."
    )


def _adapters_below(folder: Path) -> Iterable[str]:
    for entry in itertools.islice(folder.iterdir(), 1000):
        if entry.is_dir() and any((entry / name).is_file() for name in WEIGHT_NAMES):
            yield entry.name


def _container(weights: Path, *, allow_pickle: bool) -> Literal["safetensors", "pickle"]:
    if weights.suffix.lower() not in PICKLES:
        return "safetensors"
    with open_regular(weights) as file:
        start = file.read(64)
    if disguise(start) not in ("pickle", None):
        return "safetensors"  # whose reader says what it is
    if not allow_pickle:
        raise HostileFileError(
            f"Reading {str(weights)!r}: {weights.suffix} files are pickles, which can run code when they are "
            "loaded. Try: a .safetensors file, or allow_pickle=True to read plain tensors through torch's "
            "restricted unpickler."
        )
    return "pickle"


def _dialect(keys: Iterable[str], where: str) -> None:
    """Raises FormatError if the keys speak a dialect that is not read, or none."""
    names = list(keys)
    if any(PEFT_MARK.search(name) for name in names):
        return
    for dialect, mark in UNREAD.items():
        if any(mark.search(name) for name in names):
            raise FormatError(
                f"Reading {where!r}: its keys are those of {dialect}, which this version does not read yet. "
                "It reads PEFT."
            )
    raise FormatError(
        f"Reading {where!r}: none of its {len(names)} keys names a factor of a LoRA (the first is "
        f"{next(iter(names), None)!r:.80}). Expected keys such as '...q_proj.lora_A.weight'."
    )
