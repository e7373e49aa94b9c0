"""cloneofsimo's LoRAs (v0): layers by index, in the order in which the modules were injected; factor 1.

    unet:12:up  unet:12:down  text_encoder:3:up ..  <s1> (a token's embedding)      safetensors
    [up, down, up, down, ..]                                                        pickle: a list, no names

Which module an index means depends on the base model and the classes that were searched, which only the
metadata of the safetensors names; so layers keep their index: `unet.12`. Source: cloneofsimo/lora 20b46e36,
lora_diffusion/lora.py.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from lorascope.core.lora import LoRA, Side
from lorascope.io.assemble import Assembly
from lorascope.io.modules import Parts, build_module
from lorascope.io.names import Place
from lorascope.io.tensors import TensorFile

__all__ = ["name_list", "read_cloneofsimo"]

KEY = re.compile(r"(\w+):(\d+):(up|down)")


def read_cloneofsimo(file: TensorFile, where: str) -> LoRA:
    """Read a file of indexed layers. Raises FormatError where a half is missing or does not fit."""
    assembly = Assembly(where, "cloneofsimo")
    modules: dict[str, dict[str, Tensor]] = {}
    loose: dict[str, Tensor] = {}
    for key, tensor in file.tensors.items():
        found = KEY.fullmatch(key)
        if found is None:
            loose[key] = tensor
        else:
            modules.setdefault(f"{found[1]}.{int(found[2])}", {})[found[3]] = tensor
    for name, slots in modules.items():
        assembly.add_module(Place((name,)), build_module(Parts(name, slots, where)))
    for key, tensor in loose.items():
        token = key.startswith("<")
        assembly.add_side(key, Side("token" if token else "native", tensor))
        if not token:
            assembly.left.append(
                f"unknown: a tensor of no known meaning is kept beside, {key!r:.120}"
            )
    assembly.ambiguities.append(
        "order: layers are numbered in the order of injection; which module a number means depends on the base "
        "model and on the classes that were searched"
    )
    return assembly.lora(_facts(file.metadata), None, "cloneofsimo/lora")


def name_list(tensors: list[Tensor], component: str) -> dict[str, Tensor]:
    """Keys of the safetensors form for the pickled list of up, down, up, down, .."""
    return {
        f"{component}:{place // 2}:{'down' if place % 2 else 'up'}": tensor
        for place, tensor in enumerate(tensors)
    }


def _facts(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata without the ranks, which the tensors have, and the marks of embeddings."""
    return {
        key: value
        for key, value in metadata.items()
        if not key.endswith(":rank") and value != "<embed>"
    }
