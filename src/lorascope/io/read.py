"""`read_lora`: a path -> a `LoRA`, whatever the format, or an error that says why not.

    path --locate--> Found(weights, container, config) --read--> TensorFile --FORMATS[format]--> LoRA

`sniff` looks at file names, first bytes and the keys of a header, never at values. The table `FORMATS` is the
list of dialects; the marks that tell them apart are in dialects/table.py.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from lorascope.core.lora import LoRA
from lorascope.io.dialects.cloneofsimo import name_list, read_cloneofsimo
from lorascope.io.dialects.comfy import read_bfl, read_comfy, read_original
from lorascope.io.dialects.diffusers import read_diffusers
from lorascope.io.dialects.kohya import read_kohya, read_lycoris
from lorascope.io.dialects.llama_cpp import read_llama_cpp
from lorascope.io.dialects.mlx import is_mlx_config, read_mlx
from lorascope.io.dialects.table import recognise
from lorascope.io.dialects.torchtune import read_torchtune
from lorascope.io.dialects.xlabs import read_xlabs
from lorascope.io.gguf import read_gguf
from lorascope.io.header import read_header
from lorascope.io.locate import Found, locate
from lorascope.io.npz import read_npz
from lorascope.io.peft.adapter import read_peft
from lorascope.io.peft.config import PeftConfig, read_config, read_table
from lorascope.io.tensors import TensorFile, read_pickle, read_safetensors

__all__ = ["FORMATS", "Found", "read_lora", "sniff"]


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
    found = locate(Path(path), allow_pickle=allow_pickle)
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
    found = locate(Path(path), allow_pickle=True)
    if found.container in ("gguf", "npz"):
        return replace(found, format="gguf" if found.container == "gguf" else "mlx")
    if found.container == "safetensors":
        return replace(found, format=_dialect(read_header(found.weights).tensors, found))
    return found


def _list_names(weights: Path) -> Callable[[list[Tensor]], dict[str, Tensor]]:
    """Names for the tensors of a pickled list, whose component only the name of the file tells."""
    component = "text_encoder" if ".text_encoder" in weights.name else "unet"
    return lambda tensors: name_list(tensors, component)


def _dialect(keys: Iterable[str], found: Found) -> str:
    """Raises FormatError if the keys speak no dialect."""
    config = {} if found.config is None else read_table(found.config)
    if is_mlx_config(config) and config.get("fine_tune_type") == "full":
        return "mlx"
    return recognise(keys, str(found.weights), peft="peft_type" in config)
