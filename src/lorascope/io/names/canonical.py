"""The layer's name: component prefix and module path of the Hugging Face model, whatever the file's spelling.

    lora_unet_input_blocks_4_1_...attn1_to_q    unet.down_blocks.1.attentions.0...attn1.to_q
    lora_te1_text_model_encoder_layers_0_...    text_encoder.text_model.encoder.layers.0...
    diffusion_model.double_blocks.0.img_attn.qkv    transformer.transformer_blocks.0.attn.to_q | to_k | to_v

A module that no table knows keeps the spelling of the file. The tables are in unet.py, diffusion.py and
flatten.py; this file finds the component and the table.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

from lorascope.io.names.diffusion import TRANSFORMERS
from lorascope.io.names.flatten import unflatten
from lorascope.io.names.place import Place
from lorascope.io.names.unet import from_sgm

__all__ = ["Namer"]

# Prefixes with underscores after them: the path is flattened. Longest first.
FLAT = re.compile(
    r"(lora_unet__|lora_unet_|lora_transformer_|lora_te\d?_|oft_unet_|oft_diag_unet_|lycoris_)(.+)"
)
TEXT_FLAT = ("clip", "t5", "llm")
UNET_FLAT = ("unet", "sgm", "flux", "sd3", "flux_diffusers", "wan", "cosmos")
COMFY = re.compile(r"(?:model\.)?diffusion_model\.(.+)")
COMFY_TEXT = re.compile(r"text_encoders\.(\w+?)\.(?:transformer\.)?(.+)")
HUB = re.compile(
    r"(unet|transformer|transformer_2|text_encoder|text_encoder_2|text_encoder_3|prior)\.(.+)"
)
UNET_START = (
    "down_blocks.",
    "up_blocks.",
    "mid_block.",
    "conv_in",
    "conv_out",
    "time_embedding.linear_",  # Wan has a time_embedding, too
    "add_emb",
)
SGM_START = (
    "input_blocks.",
    "output_blocks.",
    "middle_block.",
    "time_embed.",
    "label_emb.",
    "out.",
)
CLIPS: Mapping[str, str] = MappingProxyType({"clip_l": "text_encoder", "clip_g": "text_encoder_2"})


@dataclass(frozen=True)
class Namer:
    """Names the modules of one file.

    Args:
        t5: the component that a T5 text encoder is in this architecture.
        hunyuan: double blocks that are not Flux'.
    """

    t5: str = "text_encoder_3"
    hunyuan: bool = False

    @classmethod
    def of(cls, modules: Iterable[str]) -> "Namer":
        """The namer for a file, from the names of all its modules."""
        names = list(modules)
        double = any(
            "double_blocks" in name or "single_transformer_blocks" in name for name in names
        )
        other = any(re.search(r"img_mlp[._]fc1|img_mod[._]linear|img_attn_qkv$", n) for n in names
                    if "double_blocks." in n or "fc1" in n or "mod_linear" in n)  # fmt: skip
        return cls("text_encoder_2" if double else "text_encoder_3", other)

    def place(self, module: str) -> Place:
        """The layers that a module, as the file spells it, is."""
        return _place(self, module)

    def _find(self, module: str) -> Place:
        flat = FLAT.fullmatch(module)
        if flat is not None:
            return self._flat(flat[1], flat[2], module)
        comfy = COMFY.fullmatch(module)
        if comfy is not None:
            return self._native(comfy[1], "") or Place((f"transformer.{comfy[1]}",))
        text = COMFY_TEXT.fullmatch(module)
        if text is not None:
            component = CLIPS.get(
                text[1], self.t5 if text[1].startswith("t5") else f"text_encoder.{text[1]}"
            )
            return Place((f"{component}.{_clip(text[2])}",))
        hub = HUB.fullmatch(module)
        if hub is not None:
            return self._native(hub[2], hub[1]) or Place((module,))
        return self._native(module, "") or Place((module,))

    def _native(self, path: str, component: str) -> Place | None:
        """A dotted path of an original model or of diffusers' UNet, with its component; None for others."""
        if path.startswith(UNET_START):
            return Place((f"{component or 'unet'}.{path}",))
        if path.startswith(SGM_START):
            name = from_sgm(path)
            return None if name is None else Place((f"unet.{name}",))
        if self.hunyuan:
            return None
        for table in TRANSFORMERS.values():
            place = table(path)
            if place is not None:
                return _within(component or "transformer", place)
        if component.startswith("text_encoder"):
            path = _clip(path)
        if path.startswith("text_model."):
            return Place((f"{component or 'text_encoder'}.{path}",))
        if component == "" and path.startswith(
            ("transformer_blocks.", "single_transformer_blocks.")
        ):
            return Place((f"transformer.{path}",))
        return None

    def _flat(self, prefix: str, flat: str, module: str) -> Place:
        if prefix.startswith("lora_te"):
            return self._flat_text(prefix.removeprefix("lora_te").rstrip("_"), flat, module)
        if prefix == "lycoris_" and "_" not in flat:
            return Place((flat,))
        for vocabulary in UNET_FLAT:
            path = None if self.hunyuan else unflatten(flat, vocabulary)
            if path is None:
                continue
            if vocabulary == "unet":
                if path.startswith(UNET_START):
                    return Place((f"unet.{path}",))
                continue  # the words of its blocks are also those of transformers
            if vocabulary == "flux_diffusers":
                return Place((f"transformer.{path}",))
            place = self._native(path, "")
            if place is not None:
                return place
        if prefix == "lycoris_":
            path = unflatten(flat, "llm") or unflatten(flat, "clip")
            if path is not None:
                return Place((f"text_encoder.{path}" if path.startswith("text_model.") else path,))
        return Place((module,), known=False)

    def _flat_text(self, number: str, flat: str, module: str) -> Place:
        component = {"": "text_encoder", "1": "text_encoder", "2": "text_encoder_2"}.get(
            number, self.t5
        )
        for vocabulary in TEXT_FLAT:
            path = unflatten(flat, vocabulary)
            if path is not None:
                return Place((f"{component}.{_clip(path)}",))
        return Place((module,), known=False)


def _clip(path: str) -> str:
    """A path of a text encoder; transformers 5 leaves out CLIP's `text_model`, all before it had it."""
    return f"text_model.{path}" if path.startswith("encoder.layers.") else path


def _within(component: str, place: Place) -> Place:
    return replace(
        place,
        names=tuple(f"{component}.{name}" for name in place.names),
        fused=place.fused and f"{component}.{place.fused}",
    )


@lru_cache(maxsize=1 << 14)
def _place(namer: Namer, module: str) -> Place:
    # a folder of files repeats the same few thousand names
    return namer._find(module)
