"""Diffusion transformers: the names of their authors -> those of diffusers, with fused matrices split by rows.

    Flux     double_blocks.0.img_attn.qkv        -> transformer_blocks.0.attn.to_q | to_k | to_v
             single_blocks.0.linear1             -> single_transformer_blocks.0.attn.to_q | .. | proj_mlp
    SD3      joint_blocks.0.x_block.attn.qkv     -> transformer_blocks.0.attn.to_q | to_k | to_v
    Wan      blocks.0.self_attn.q                -> blocks.0.attn1.to_q
    Anima    blocks.0.self_attn.q_proj           -> transformer_blocks.0.attn1.to_q

Source: diffusers 0.42.1, loaders/lora_conversion_utils.py; scripts/convert_sd3_to_diffusers.py.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from lorascope.io.names.place import Place

__all__ = ["TRANSFORMERS", "flux_place"]

IMAGE = ("attn.to_q", "attn.to_k", "attn.to_v")
TEXT = ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")
DOUBLE: Mapping[str, str | tuple[str, ...]] = MappingProxyType(
    {
        "img_attn.qkv": IMAGE,
        "txt_attn.qkv": TEXT,
        "img_attn.proj": "attn.to_out.0",
        "txt_attn.proj": "attn.to_add_out",
        "img_attn.norm.query_norm": "attn.norm_q",
        "img_attn.norm.key_norm": "attn.norm_k",
        "txt_attn.norm.query_norm": "attn.norm_added_q",
        "txt_attn.norm.key_norm": "attn.norm_added_k",
        "img_mlp.0": "ff.net.0.proj",
        "img_mlp.2": "ff.net.2",
        "txt_mlp.0": "ff_context.net.0.proj",
        "txt_mlp.2": "ff_context.net.2",
        "img_mod.lin": "norm1.linear",
        "txt_mod.lin": "norm1_context.linear",
        # XLabs numbers the streams of one processor
        "processor.qkv_lora1": IMAGE,
        "processor.qkv_lora2": TEXT,
        "processor.proj_lora1": "attn.to_out.0",
        "processor.proj_lora2": "attn.to_add_out",
    }
)
SINGLE: Mapping[str, str | tuple[str, ...]] = MappingProxyType(
    {
        "linear1": (*IMAGE, "proj_mlp"),
        "linear2": "proj_out",
        "modulation.lin": "norm.linear",
        "norm.query_norm": "attn.norm_q",
        "norm.key_norm": "attn.norm_k",
        "processor.qkv_lora": IMAGE,
        "processor.proj_lora": "proj_out",
    }
)
OUTSIDE: Mapping[str, str] = MappingProxyType(
    {
        "img_in": "x_embedder",
        "txt_in": "context_embedder",
        "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
        "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
        "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
        "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
        "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
        "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
        "final_layer.linear": "proj_out",
        "final_layer.adaLN_modulation.1": "norm_out.linear",
    }
)
JOINT: Mapping[str, str | tuple[str, ...]] = MappingProxyType(
    {
        "x_block.attn.qkv": IMAGE,
        "x_block.attn.proj": "attn.to_out.0",
        "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
        "x_block.attn2.proj": "attn2.to_out.0",
        "x_block.mlp.fc1": "ff.net.0.proj",
        "x_block.mlp.fc2": "ff.net.2",
        "x_block.adaLN_modulation.1": "norm1.linear",
        "context_block.attn.qkv": TEXT,
        "context_block.attn.proj": "attn.to_add_out",
        "context_block.mlp.fc1": "ff_context.net.0.proj",
        "context_block.mlp.fc2": "ff_context.net.2",
    }
)
WAN: Mapping[str, str] = MappingProxyType(
    {
        "q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "k_img": "add_k_proj",
        "v_img": "add_v_proj", "norm_q": "norm_q", "norm_k": "norm_k",
        "0": "net.0.proj", "2": "net.2",
        "self_attn": "attn1", "cross_attn": "attn2", "ffn": "ffn",
    }
)  # fmt: skip
WAN_OUTSIDE: Mapping[str, str] = MappingProxyType(
    {
        "head.head": "proj_out",
        "text_embedding.0": "condition_embedder.text_embedder.linear_1",
        "text_embedding.2": "condition_embedder.text_embedder.linear_2",
        "time_embedding.0": "condition_embedder.time_embedder.linear_1",
        "time_embedding.2": "condition_embedder.time_embedder.linear_2",
        "time_projection.1": "condition_embedder.time_proj",
    }
)
COSMOS: Mapping[str, str] = MappingProxyType(
    {
        "self_attn": "attn1", "cross_attn": "attn2", "q_proj": "to_q", "k_proj": "to_k",
        "v_proj": "to_v", "output_proj": "to_out.0", "mlp.layer1": "ff.net.0.proj",
        "mlp.layer2": "ff.net.2", "adaln_modulation_self_attn": "norm1",
        "adaln_modulation_cross_attn": "norm2", "adaln_modulation_mlp": "norm3",
    }
)  # fmt: skip
COSMOS_OUTSIDE: Mapping[str, str] = MappingProxyType(
    {
        "final_layer.linear": "proj_out",
        "final_layer.adaln_modulation.1": "norm_out.linear_1",
        "final_layer.adaln_modulation.2": "norm_out.linear_2",
        "t_embedder.1": "time_embed.t_embedder",
        "t_embedding_norm": "time_embed.norm",
        "x_embedder.proj.1": "patch_embed.proj",
    }
)
BLOCK = re.compile(r"(double_blocks|single_blocks|joint_blocks|blocks)\.(\d+)\.(.+)")


def flux_place(path: str) -> Place | None:
    """The layers of diffusers' Flux transformer that a module of the original is."""
    if path in OUTSIDE:
        return Place((OUTSIDE[path],), swap=path.endswith("adaLN_modulation.1"))
    found = BLOCK.fullmatch(path)
    if found is None or found[1] not in ("double_blocks", "single_blocks"):
        return None
    table, block = (
        (DOUBLE, f"transformer_blocks.{found[2]}")
        if found[1] == "double_blocks"
        else (SINGLE, f"single_transformer_blocks.{found[2]}")
    )
    return _place(table, block, found[3], path, mlp=found[3] == "linear1")


def sd3_place(path: str) -> Place | None:
    """The same for SD3. The last block's context modulation and the final layer's are left as they are."""
    found = BLOCK.fullmatch(path)
    if found is None or found[1] != "joint_blocks":
        return Place(("proj_out",)) if path == "final_layer.linear" else None
    return _place(JOINT, f"transformer_blocks.{found[2]}", found[3], path)


def wan_place(path: str) -> Place | None:
    """The same for Wan."""
    if path in WAN_OUTSIDE:
        return Place((WAN_OUTSIDE[path],))
    found = BLOCK.fullmatch(path)
    if found is None or found[1] != "blocks":
        return None
    part, _, rest = found[3].partition(".")
    if part not in ("self_attn", "cross_attn", "ffn") or rest not in WAN:
        return None
    return Place((f"blocks.{found[2]}.{WAN[part]}.{WAN[rest]}",))


def cosmos_place(path: str) -> Place | None:
    """The same for the Cosmos transformer of Anima."""
    if path in COSMOS_OUTSIDE:
        return Place((COSMOS_OUTSIDE[path],))
    found = BLOCK.fullmatch(path)
    if found is None or found[1] != "blocks":
        return None
    block = f"transformer_blocks.{found[2]}"
    if found[3] in COSMOS:
        return Place((f"{block}.{COSMOS[found[3]]}",))
    part, _, rest = found[3].partition(".")
    if part.startswith("adaln_modulation_") and part in COSMOS and rest in ("1", "2"):
        return Place((f"{block}.{COSMOS[part]}.linear_{rest}",))
    if part in ("self_attn", "cross_attn") and rest in COSMOS:
        return Place((f"{block}.{COSMOS[part]}.{COSMOS[rest]}",))
    return None


def _place(
    table: Mapping[str, str | tuple[str, ...]],
    block: str,
    rest: str,
    path: str,
    *,
    mlp: bool = False,
) -> Place | None:
    names = table.get(rest)
    if names is None:
        return None
    if isinstance(names, str):
        return Place((f"{block}.{names}",))
    return Place(tuple(f"{block}.{name}" for name in names), fused=path, mlp=mlp)


# By the vocabulary that their flattened names are told by.
TRANSFORMERS: Mapping[str, Callable[[str], Place | None]] = MappingProxyType(
    {"flux": flux_place, "sd3": sd3_place, "wan": wan_place, "cosmos": cosmos_place}
)
