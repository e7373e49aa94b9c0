"""llama.cpp's adapters: GGUF files that convert_lora_to_gguf.py makes of PEFT's.

    blk.0.attn_q.weight.lora_a (r, m)   .lora_b (n, r)        factor = adapter.lora.alpha / r, 1 for alpha 0
    token_embd.weight.lora_a (tokens, r)   .lora_b (width, r)      update (tokens, width) = s lora_a lora_b^T

The converter keeps one alpha: rsLoRA and alpha patterns are lost, and the file does not show it. For `llama` it
puts the rows of q and k into its own order of rotary pairs; undoing that needs the number of heads. Source:
llama.cpp, convert_lora_to_gguf.py (0b03adaa), llama-adapter.h.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor

from lorascope.core.lora import LoRA, Scale, Side
from lorascope.errors import FormatError
from lorascope.io.assemble import Assembly
from lorascope.io.gguf import GgufFile
from lorascope.io.modules import Parts, build_module
from lorascope.io.modules.parts import Built
from lorascope.io.names import Place

__all__ = ["read_llama_cpp"]

KEY = re.compile(r"(.+)\.weight\.(lora_[ab])")
BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
NAMES: Mapping[str, str] = MappingProxyType(
    {
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
)
OUTSIDE = {"token_embd": "model.embed_tokens", "output": "lm_head"}
# Architectures whose modules transformers names as Llama's.
LLAMA_LIKE = frozenset(
    [
        "llama",
        "qwen2",
        "qwen3",
        "mistral",
        "gemma",
        "gemma2",
        "gemma3",
        "granite",
        "olmo2",
        "smollm3",
        "deci",
        "internlm2",
    ]
)
ROTATED = frozenset({"llama", "granite", "deci"})


def read_llama_cpp(file: GgufFile, where: str) -> LoRA:
    """Read an adapter of llama.cpp.

    Raises:
        FormatError: it is no adapter, a half is missing, shapes do not fit, alpha is no number.
    """
    fields = file.fields
    if fields.get("general.type") != "adapter" or fields.get("adapter.type") != "lora":
        raise FormatError(
            f"Reading {where!r}: found general.type {fields.get('general.type')!r:.40} and adapter.type "
            f"{fields.get('adapter.type')!r:.40}, expected 'adapter' and 'lora'. It is a model, not a LoRA."
        )
    alpha = _alpha(fields, where)
    architecture = str(fields.get("general.architecture", ""))
    assembly = Assembly(where, "gguf")
    modules, loose = _group(file.tensors)
    for module, slots in modules.items():
        built = _build(module, slots, alpha, where)
        assembly.add_module(Place((_name(module, architecture),)), built)
    for key, tensor in loose.items():
        assembly.add_side(key, Side("full", tensor))  # whole norms pass through the converter
    _report(assembly, architecture, alpha)
    plain = {key: value for key, value in fields.items() if not isinstance(value, list)}
    base = fields.get("general.base_model.0.name")
    return assembly.lora(plain, base if isinstance(base, str) else None, "llama.cpp")


def _group(tensors: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    modules: dict[str, dict[str, Tensor]] = {}
    loose: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        found = KEY.fullmatch(key)
        if found is None:
            loose[key] = tensor
        else:
            slot = "down" if found[2] == "lora_a" else "up"
            modules.setdefault(found[1], {})[slot] = tensor
    return modules, loose


def _build(module: str, slots: Mapping[str, Tensor], alpha: float | None, where: str) -> Built:
    embedding = module == "token_embd" and len(slots) == 2
    if embedding:  # u = s lora_a, v = lora_b: the transposed of the rest
        slots = {"up": slots["down"], "down": slots["up"].T}
    down = slots.get("down")
    rank = down.shape[0] if down is not None and down.ndim else 1
    scale = Scale(alpha, rank, alpha / max(rank, 1) if alpha else 1.0, "alpha/r")
    built = build_module(Parts(module, slots, where, scale))
    if not embedding:
        return built
    return Built(built.pair, built.scale, built.side, "embedding", built.notes, built.left)


def _alpha(fields: Mapping[str, Any], where: str) -> float | None:
    alpha = fields.get("adapter.lora.alpha")
    if alpha is not None and (type(alpha) not in (int, float) or not abs(alpha) <= 1e30):
        raise FormatError(f"Reading {where!r}: adapter.lora.alpha is {alpha!r:.40}.")
    return None if alpha is None else float(alpha)


def _name(module: str, architecture: str) -> str:
    if architecture not in LLAMA_LIKE:
        return module
    found = BLOCK.fullmatch(module)
    if found is None:
        return OUTSIDE.get(module, module)
    return f"model.layers.{found[1]}.{NAMES[found[2]]}" if found[2] in NAMES else module


def _report(assembly: Assembly, architecture: str, alpha: float | None) -> None:
    assembly.ambiguities.append(
        "rslora: the converter keeps one alpha and neither rsLoRA nor alpha patterns; factors are those that "
        "llama.cpp uses, alpha/r, and may differ from the adapter that was converted"
    )
    if alpha is None:
        assembly.ambiguities.append("scale: the file has no adapter.lora.alpha; factors are 1")
    rotated = [name for name in assembly.layers if name.endswith((".q_proj", ".k_proj"))]
    if rotated and architecture in ROTATED:
        assembly.ambiguities.append(
            f"rotary: the rows of {len(rotated)} layers such as {rotated[0]!r} are in llama.cpp's order of "
            "rotary pairs; transformers' order needs the number of heads"
        )
    if architecture not in LLAMA_LIKE:
        assembly.ambiguities.append(
            f"names: no table has the modules of {architecture!r:.40}; they keep llama.cpp's names"
        )
