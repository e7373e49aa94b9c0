"""torchtune's own adapters: adapter_model.pt or .safetensors, in the names of its models.

    layers.0.attn.q_proj.lora_a.weight (r, m)   .lora_b.weight (n, r)   [.magnitude (n,)]     factor = alpha/r

alpha and r come from the adapter_config.json beside it. The names are brought to those of transformers; the
rows of q and k stay in torchtune's order of rotary pairs, which differs from transformers' and whose undoing
needs the number of heads. Source: torchtune 0.6.1, modules/peft, models/convert_weights.py.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from lorascope.core.lora import LoRA, Scale
from lorascope.io.assemble import assemble
from lorascope.io.peft.config import PeftConfig
from lorascope.io.tensors import TensorFile

__all__ = ["read_torchtune"]

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "attn.q_proj": "self_attn.q_proj",
        "attn.k_proj": "self_attn.k_proj",
        "attn.v_proj": "self_attn.v_proj",
        "attn.output_proj": "self_attn.o_proj",
        "mlp.w1": "mlp.gate_proj",
        "mlp.w2": "mlp.down_proj",
        "mlp.w3": "mlp.up_proj",
    }
)
KEY = re.compile(r"(?:layers\.(\d+)\.(.+)|(output))\.(lora_[ab]\.weight|magnitude)")
ENDINGS = {"lora_a.weight": "lora_A.weight", "lora_b.weight": "lora_B.weight"}


def read_torchtune(file: TensorFile, config: PeftConfig, where: str) -> LoRA:
    """Read a torchtune adapter; `config` may be absent, then the scale is unknown."""
    tensors = {_renamed(key): tensor for key, tensor in file.tensors.items()}

    def scale_of(layer: str, rank: int) -> Scale:
        return config.scale_of(layer, max(rank, 1))

    assembly = assemble(tensors, where, "torchtune", scale_of)
    assembly.ambiguities.extend(config.ambiguities())
    rotated = [name for name in assembly.layers if name.endswith(("q_proj", "k_proj"))]
    if rotated:
        assembly.ambiguities.append(
            f"rotary: the rows of {len(rotated)} layers such as {rotated[0]!r} are in torchtune's order of "
            "rotary pairs; transformers' order needs the number of heads"
        )
    return assembly.lora(config.data, config.base, "torchtune")


def _renamed(key: str) -> str:
    found = KEY.fullmatch(key)
    if found is None:
        for ours, theirs in ENDINGS.items():
            key = key.replace(ours, theirs)
        return key
    ending = ENDINGS.get(found[4], found[4])
    if found[3]:
        return f"lm_head.{ending}"
    return f"model.layers.{found[1]}.{NAMES.get(found[2], found[2])}.{ending}"
