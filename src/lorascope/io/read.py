"""`read_lora`: a path -> a `LoRA`, whatever the format, or an error that says why not.

    path --sniff--> Found(format, weights, container, config) --read--> TensorFile --FORMATS[format]--> LoRA

`sniff` looks at file names, first bytes and the keys of a header, never at values. The table `FORMATS` is the
list of dialects; the marks that tell them apart are in dialects/table.py.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from lorascope.core.lora import LoRA
from lorascope.errors import FormatError, HostileFileError
from lorascope.io.dialects.cloneofsimo import name_list, read_cloneofsimo
from lorascope.io.dialects.comfy import read_bfl, read_comfy, read_original
from lorascope.io.dialects.diffusers import read_diffusers
from lorascope.io.dialects.kohya import read_kohya, read_lycoris
from lorascope.io.dialects.llama_cpp import read_llama_cpp
from lorascope.io.dialects.mlx import is_mlx_config, read_mlx
from lorascope.io.dialects.table import recognise
from lorascope.io.dialects.torchtune import read_torchtune
from lorascope.io.dialects.xlabs import read_xlabs
from lorascope.io.disguise import disguise
from lorascope.io.file_names import PICKLE_SUFFIXES, WEIGHT_NAMES
from lorascope.io.gguf import read_gguf
from lorascope.io.header import open_regular, read_header
from lorascope.io.npz import read_npz
from lorascope.io.peft.adapter import read_peft
from lorascope.io.peft.config import PeftConfig, read_config, read_table
from lorascope.io.tensors import TensorFile, read_pickle, read_safetensors

__all__ = ["FORMATS", "Found", "read_lora", "sniff"]

CONFIG_NAME = "adapter_config.json"


@dataclass(frozen=True)
class Found:
    """What `sniff` found: the dialect, the file of weights, its container, and the configuration beside it."""

    format: str
    weights: Path
    container: Literal["safetensors", "pickle", "gguf", "npz"]
    config: Path | None


def _read_peft(file: TensorFile, found: Found) -> LoRA:
    where = str(found.weights)
    config = read_config(found.config) if found.config else PeftConfig(None, where)
    return read_peft(file, config, where)


def _read_mlx(file: TensorFile, found: Found) -> LoRA:
    config = {} if found.config is None else read_table(found.config)
    return read_mlx(file, config if is_mlx_config(config) else {}, str(found.weights))


def _read_torchtune(file: TensorFile, found: Found) -> LoRA:
    where = str(found.weights)
    config = read_config(found.config) if found.config else PeftConfig(None, where)
    return read_torchtune(file, config, where)


def _alone(read: Callable[[TensorFile, str], LoRA]) -> Callable[[TensorFile, Found], LoRA]:
    """A reader of a dialect that keeps everything in one file."""
    return lambda file, found: read(file, str(found.weights))


FORMATS: Mapping[str, Callable[[TensorFile, Found], LoRA]] = MappingProxyType(
    {
        "peft": _read_peft,
        "kohya": _alone(read_kohya),
        "lycoris": _alone(read_lycoris),
        "diffusers": _alone(read_diffusers),
        "comfy": _alone(read_comfy),
        "original": _alone(read_original),
        "xlabs": _alone(read_xlabs),
        "bfl": _alone(read_bfl),
        "cloneofsimo": _alone(read_cloneofsimo),
        "mlx": _read_mlx,
        "torchtune": _read_torchtune,
    }
)


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
    formats: list[str] = []

    def recognised(keys: Iterable[str]) -> None:
        formats.append(_dialect(keys, found))

    if found.container == "gguf":
        lora = read_llama_cpp(read_gguf(found.weights), str(found.weights))
        return lora if dtype is None else lora.to(dtype)
    if found.container == "npz":
        file = read_npz(found.weights)
        recognised(file.tensors)
    elif found.container == "pickle":
        file = read_pickle(found.weights, name_list=_list_names(found.weights))
        recognised(file.tensors)
    else:
        # the keys are looked at before the values are read: a whole model is refused at once
        file = read_safetensors(found.weights, lambda header: recognised(header.tensors))
    lora = FORMATS[formats[0]](file, replace(found, format=formats[0]))
    return lora if dtype is None else lora.to(dtype)


def sniff(path: Path | str) -> Found:
    """Say what a folder or a file of weights is, without reading values.

    The dialect of a pickle or an archive is not looked into: it is taken to be PEFT, or MLX.

    Raises:
        FileError: one of its kinds, as `read_lora` would.
    """
    found = _locate(Path(path), allow_pickle=True)
    if found.container in ("gguf", "npz"):
        return replace(found, format="gguf" if found.container == "gguf" else "mlx")
    if found.container == "safetensors":
        return replace(found, format=_dialect(read_header(found.weights).tensors, found))
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


def _list_names(weights: Path) -> Callable[[list[Tensor]], dict[str, Tensor]]:
    """Names for the tensors of a pickled list, whose component only the name of the file tells."""
    component = "text_encoder" if ".text_encoder" in weights.name else "unet"
    return lambda tensors: name_list(tensors, component)


def _container(
    weights: Path, *, allow_pickle: bool
) -> Literal["safetensors", "pickle", "gguf", "npz"]:
    with open_regular(weights) as file:
        start = file.read(64)
    if start.startswith(b"GGUF") and weights.suffix.lower() != ".safetensors":
        return "gguf"
    if weights.suffix.lower() == ".npz":
        return "npz"
    if weights.suffix.lower() not in PICKLE_SUFFIXES:
        return "safetensors"
    if disguise(start) not in ("pickle", None):
        return "safetensors"  # whose reader says what it is
    if not allow_pickle:
        raise HostileFileError(
            f"Reading {str(weights)!r}: {weights.suffix} files are pickles, which can run code when they are "
            "loaded. Try: a .safetensors file, or allow_pickle=True to read plain tensors through torch's "
            "restricted unpickler."
        )
    return "pickle"


def _dialect(keys: Iterable[str], found: Found) -> str:
    """Raises FormatError if the keys speak no dialect."""
    config = {} if found.config is None else read_table(found.config)
    if is_mlx_config(config) and config.get("fine_tune_type") == "full":
        return "mlx"
    return recognise(keys, str(found.weights), peft="peft_type" in config)
