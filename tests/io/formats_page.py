"""docs/formats.md: what of each format is read, how exactly, what is written, and what proves it.

`python -m tests.io.formats_page > docs/formats.md` makes the page. The outcomes in it are measured: a file of
each format is made and read.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from lorascope.errors import FileError
from lorascope.io import read_lora

Q = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
CLIP = "text_model.encoder.layers.0.self_attn.q_proj"
LLM = "model.layers.0.self_attn.v_proj"
FLAT = f"lora_unet_{Q.replace('.', '_')}"
QKV = "double_blocks.0.img_attn.qkv"
FLAT_QKV = f"lora_unet_{QKV.replace('.', '_')}"
NEEDS_BASE = "the rest needs the base weights and is kept beside"
NO_WRITER = "no: PEFT or kohya say the same"
ONLY_READ = "no: not an update that a file alone determines"
OUTCOMES = {
    "exact": "exactly",
    "ambiguous": "with named ambiguities",
    "part": "in part, the rest named",
}


@dataclass(frozen=True)
class Row:
    """One line of the table; `make` writes a file and gives its path."""

    format: str
    make: Callable[[Path], Path]
    exact: str
    writes: str
    oracle: str
    test: str


def ones(*shape: int) -> Tensor:
    return torch.ones(shape)


def pair(module: str, down: str, up: str, n: int = 12, m: int = 4) -> dict[str, Tensor]:
    return {f"{module}{down}": ones(2, m), f"{module}{up}": ones(n, 2)}


def kohya(module: str = FLAT, **more: Tensor) -> dict[str, Tensor]:
    tensors = pair(module, ".lora_down.weight", ".lora_up.weight") | {f"{module}.alpha": ones()}
    return tensors | {f"{module}.{slot}": tensor for slot, tensor in more.items()}


def slots(module: str = FLAT, **tensors: Tensor) -> dict[str, Tensor]:
    return {f"{module}.{slot.replace('__', '.')}": tensor for slot, tensor in tensors.items()}


def file(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None, config: object = None):
    def make(folder: Path) -> Path:
        save_file(tensors, folder / "a.safetensors", metadata)
        if config is not None:
            (folder / "adapter_config.json").write_text(json.dumps(config))
        return folder / "a.safetensors"

    return make


def pickled(value: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        torch.save(value, folder / "a.pt")
        return folder / "a.pt"

    return make


def llama_cpp(folder: Path) -> Path:
    writer = gguf.GGUFWriter(folder / "a.gguf", "qwen2")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    writer.add_tensor("blk.0.attn_v.weight.lora_a", np.ones((2, 4), dtype=np.float32))
    writer.add_tensor("blk.0.attn_v.weight.lora_b", np.ones((6, 2), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "a.gguf"


A_B = ".lora_A.weight", ".lora_B.weight"
PEFT = pair(f"base_model.model.{LLM}", *A_B)
PEFT_CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
MLX_CONFIG = {"fine_tune_type": "lora", "lora_parameters": {"scale": 20.0}}
HEADER = {"lora_adapter_metadata": json.dumps({"unet.r": 2, "unet.lora_alpha": 4})}
SPLIT_QKV = {"ss_network_args": json.dumps({"split_qkv": "True"})}
BLOCKS = {
    f"{FLAT_QKV}.lora_down.weight": ones(3, 4),
    f"{FLAT_QKV}.lora_up.weight": torch.block_diag(*[ones(4, 1)] * 3),
}
D = "tests/io/dialects"
ROWS = [
    Row(
        "PEFT: LoRA, rsLoRA, AdaLoRA, QA-LoRA, BD-LoRA, KaSA, experts, embeddings, convolutions",
        file(PEFT, config=PEFT_CONFIG),
        "yes",
        "yes",
        "peft",
        "tests/io/peft/test_adapter.py",
    ),
    Row(
        "PEFT without its adapter_config.json",
        file(PEFT),
        "but for the scale, read as 1",
        "yes, as PEFT with a configuration",
        "peft",
        "tests/io/peft/test_adapter.py",
    ),
    Row(
        "PEFT: LoHa, LoKr",
        file(
            slots(
                f"base_model.model.{LLM}",
                hada_w1_a=ones(12, 2),
                hada_w1_b=ones(2, 9),
                hada_w2_a=ones(12, 2),
                hada_w2_b=ones(2, 9),
            ),
            config={"peft_type": "LOHA", "r": 2, "alpha": 2},
        ),
        "yes, as their factors",
        "as a pair; kohya",
        "peft",
        "tests/io/peft/test_native.py",
    ),
    Row(
        "PEFT: other peft_types (VeRA, OFT, IA3, prompts, ...)",
        file(PEFT, config=PEFT_CONFIG | {"peft_type": "VERA"}),
        "no: each has another equation, which the message names",
        "no: not read",
        "none: refused",
        "tests/io/peft/test_config.py",
    ),
    Row(
        "diffusers, attention processors",
        file(
            pair(f"{Q.removesuffix('to_q')}processor.to_q", "_lora.down.weight", "_lora.up.weight")
        ),
        "yes",
        NO_WRITER,
        "diffusers",
        f"{D}/test_diffusers.py",
    ),
    Row(
        "diffusers, UNet",
        file(pair(f"unet.{Q}", ".lora.down.weight", ".lora.up.weight")),
        "yes",
        NO_WRITER,
        "the equation of its layer; same as kohya",
        f"{D}/test_diffusers.py",
    ),
    Row(
        "diffusers, text encoder",
        file(
            pair(
                f"text_encoder.{CLIP}",
                ".lora_linear_layer.down.weight",
                ".lora_linear_layer.up.weight",
            )
        ),
        "yes",
        NO_WRITER,
        "the equation of its layer; same as kohya",
        f"{D}/test_diffusers.py",
    ),
    Row(
        "diffusers, transformers (Flux, SD3 and later)",
        file(pair("transformer.transformer_blocks.0.attn.to_q", *A_B)),
        "yes",
        NO_WRITER,
        "diffusers",
        f"{D}/test_diffusers.py",
    ),
    Row(
        "diffusers with LoRA metadata in the header",
        file(pair(f"unet.{Q}", *A_B), HEADER),
        "yes",
        NO_WRITER,
        "diffusers",
        f"{D}/test_diffusers.py",
    ),
    Row(
        "kohya: LoRA for SD1, SD2, SDXL, SD3, Flux",
        file(kohya()),
        "yes",
        "yes, in sd-scripts' spelling: sgm names for SDXL, fused ones for SD3 and Flux",
        "diffusers, lycoris-lora",
        f"{D}/test_kohya.py",
    ),
    Row(
        "kohya: LoCon, with and without a middle",
        file(
            slots(
                lora_down__weight=ones(2, 4, 1, 1),
                lora_up__weight=ones(6, 2, 1, 1),
                lora_mid__weight=ones(2, 2, 3, 3),
            )
        ),
        "yes",
        "yes, without the middle: the same update",
        "lycoris-lora",
        "tests/io/modules/test_build.py",
    ),
    Row(
        "kohya: Flux, fused",
        file(kohya(FLAT_QKV)),
        "yes, split by rows",
        "yes, fused again",
        "diffusers",
        f"{D}/test_kohya.py",
    ),
    Row(
        "kohya: Flux trained with split_qkv",
        file(BLOCKS, SPLIT_QKV),
        "but for the scale, both of which are named",
        "yes, fused again",
        "the equation of sd-scripts' merge: sd-scripts is no package",
        f"{D}/test_kohya.py",
    ),
    Row(
        "LyCORIS: LoHa",
        file(
            slots(
                hada_w1_a=ones(12, 2),
                hada_w1_b=ones(2, 9),
                hada_w2_a=ones(12, 2),
                hada_w2_b=ones(2, 9),
            )
        ),
        "yes, as its four factors; as a pair at rank r^2, or at the width where that is less",
        "kohya, PEFT as a pair",
        "lycoris-lora",
        "tests/io/modules/test_build.py",
    ),
    Row(
        "LyCORIS: LoKr, a factor decomposed",
        file(slots(lokr_w1=ones(2, 2), lokr_w2_a=ones(6, 2), lokr_w2_b=ones(2, 4))),
        "yes, as its factors; as a pair at its exact rank",
        "kohya, PEFT as a pair",
        "lycoris-lora",
        "tests/io/modules/test_build.py",
    ),
    Row(
        "LyCORIS: LoKr, two whole factors",
        file(slots(lokr_w1=ones(2, 2), lokr_w2=ones(4, 2))),
        "yes, as the two factors; as a pair at the product of their widths, where that fits into memory",
        "kohya, PEFT as a pair",
        "lycoris-lora",
        "tests/io/modules/test_build.py",
    ),
    Row(
        "LyCORIS: full, norm",
        file(slots(diff=ones(4, 4), diff_b=ones(4))),
        "yes, beside the pairs",
        "kohya",
        "lycoris-lora",
        "tests/io/modules/test_beside.py",
    ),
    Row(
        "DoRA, over rows or columns",
        file(kohya(dora_scale=ones(12, 1))),
        f"the direction; {NEEDS_BASE}",
        "kohya; PEFT over rows",
        "the equation of its layer",
        "tests/io/modules/test_beside.py",
    ),
    Row(
        "LyCORIS: GLoRA",
        file(
            slots(
                a1__weight=ones(4, 2),
                a2__weight=ones(2, 4),
                b1__weight=ones(6, 2),
                b2__weight=ones(2, 4),
            )
        ),
        f"B's part; {NEEDS_BASE}",
        ONLY_READ,
        "lycoris-lora",
        "tests/io/modules/test_beside.py",
    ),
    Row(
        "LyCORIS: IA3, OFT, BOFT, T-LoRA",
        file(slots(oft_blocks=ones(2, 2, 2))),
        NEEDS_BASE,
        ONLY_READ,
        "lycoris-lora makes the files",
        "tests/io/modules/test_beside.py",
    ),
    Row(
        "XLabs (Flux)",
        file(pair("double_blocks.0.processor.qkv_lora1", ".down.weight", ".up.weight")),
        "yes, split by rows",
        NO_WRITER,
        "diffusers",
        f"{D}/test_xlabs.py",
    ),
    Row(
        "BFL's control LoRAs (Flux)",
        file(pair(QKV, *A_B) | {f"{QKV}.lora_B.bias": ones(12)}),
        "yes, split by rows",
        NO_WRITER,
        "diffusers",
        f"{D}/test_comfy.py",
    ),
    Row(
        "ComfyUI, ai-toolkit",
        file(pair(f"diffusion_model.{QKV}", *A_B)),
        "yes, split by rows",
        NO_WRITER,
        "same as kohya and diffusers: neither is a package",
        "tests/io/test_dialects.py",
    ),
    Row(
        "OneTrainer: DIFFUSERS, KOHYA, ORIGINAL, COMFY, LEGACY",
        file(
            pair(
                "lora_transformer_transformer_blocks_0_attn_to_q",
                ".lora_down.weight",
                ".lora_up.weight",
            )
        ),
        "yes",
        "LEGACY, for kohya files whose parts cannot be fused without loss",
        "same as kohya and diffusers: it is no package",
        "tests/io/test_dialects.py",
    ),
    Row(
        "musubi-tuner, Wan-Fun",
        file(kohya("lora_unet__blocks_0_self_attn_q")),
        "yes",
        "yes: kohya files of Wan, Anima and Qwen-Image",
        "diffusers (Wan)",
        f"{D}/test_comfy.py",
    ),
    Row(
        "cloneofsimo",
        file({"unet:0:down": ones(2, 4), "unet:0:up": ones(6, 2)}),
        "updates yes; layers by index",
        NO_WRITER,
        "the equation of its layer: lora_diffusion is not on PyPI",
        f"{D}/test_cloneofsimo.py",
    ),
    Row(
        "cloneofsimo, pickled list",
        pickled([ones(6, 2), ones(2, 4)]),
        "updates yes; layers by index",
        NO_WRITER,
        "the equation of its layer: lora_diffusion is not on PyPI",
        f"{D}/test_cloneofsimo.py",
    ),
    Row(
        "MLX: LoRA, DoRA, experts, full (.safetensors, .npz)",
        file({f"{LLM}.lora_a": ones(4, 2), f"{LLM}.lora_b": ones(2, 6)}, config=MLX_CONFIG),
        "yes",
        NO_WRITER,
        "mlx-lm where it is installed (no wheel for every platform), the equation of its layer",
        f"{D}/test_mlx.py",
    ),
    Row(
        "GGUF (llama.cpp), quantised factors, too",
        llama_cpp,
        "as llama.cpp runs it; rsLoRA is lost in the file",
        NO_WRITER,
        "gguf; the equation of llama.cpp's graph: it is no Python package",
        f"{D}/test_llama_cpp.py",
    ),
    Row(
        "torchtune",
        file(pair("layers.0.mlp.w1", ".lora_a.weight", ".lora_b.weight"), config=PEFT_CONFIG),
        "yes; rows of q and k stay in torchtune's order",
        NO_WRITER,
        "torchtune's converter to PEFT where it is installed, its PEFT export",
        f"{D}/test_torchtune.py",
    ),
    Row(
        "pickles of all the above (.bin, .pt, .ckpt)",
        pickled(kohya()),
        "yes",
        "no: safetensors only",
        "torch's restricted unpickler, only with allow_pickle=True",
        "tests/io/test_read.py",
    ),
]
HEAD = """# Formats

Every file ends in one of four ways: read exactly; read with named ambiguities (`provenance.ambiguities`); read
in part, with what was left and why (`provenance.left`); refused, with the reason, as an error.
`provenance.outcome` says which of the first three. No tensor is dropped in silence.

Read means the factor pair with the scale applied, under the name that the layer has in the Hugging Face model
where a table knows it; a PEFT adapter of a bare component keeps the names of that component. The oracle is
the format's own writer or loader: the update that it adds to the weight is reached to 1e-5 relative in fp32 and
1e-2 in fp16.

This page is made by `python -m tests.io.formats_page > docs/formats.md`.

| format | reads | exact | writes | oracle | test |
| :-- | :-- | :-- | :-- | :-- | :-- |
"""
TAIL = """
Known differences from other readers, all on their side: diffusers 0.42.1 gives attention layers of a kohya file
whose alphas differ one alpha for all; its converter of BFL's control LoRAs swaps the rows of A along with those
of B in the last modulation; LyCORIS 4.1.3 applies the scale twice where it merges LoHa and LoKr (once in its
forward pass, which is taken here), and cannot load LoKr files in Tucker form or with only
the second factor whole. PEFT 0.21.2 crosses the axes of kernel and inputs where a LoKr of Conv1d has a whole
second factor; that is what it trained, and what is read.

The same adapter saved in two dialects reads as the same LoRA: `tests/io/test_dialects.py` and
`tests/io/dialects/test_same_lora.py` hold it for each pair of dialects that can hold it, for SD1, SDXL, SD3,
Flux, Wan, Anima, Qwen-Image, their text encoders, and language models.
"""


def outcome(row: Row, folder: Path) -> str:
    """How the file of a row is read."""
    try:
        return OUTCOMES[read_lora(row.make(folder), allow_pickle=True).provenance.outcome]
    except FileError:
        return "refused, with the reason"


def page() -> str:
    """The whole page."""
    lines = []
    for row in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            cells = (
                row.format,
                outcome(row, Path(folder)),
                row.exact,
                row.writes,
                row.oracle,
                f"`{row.test}`",
            )
        lines.append(f"| {' | '.join(cells)} |\n")
    return HEAD + "".join(lines) + TAIL


if __name__ == "__main__":
    sys.stdout.write(page())
