"""A small valid file of each format: what the mutations start from. `write(name, folder)` makes one."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

Q = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
FLAT = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
PEFT = "base_model.model.model.layers.0.self_attn.q_proj"
SS = {
    "ss_network_dim": "2",
    "ss_network_alpha": "1",
    "ss_network_args": '{"algo": "lora"}',
    "ss_tag_frequency": '{"a": {"b": 1}}',
}


def numbers(*shape: int) -> Tensor:
    """Fixed values of a shape."""
    return torch.linspace(-1, 1, max(torch.Size(shape).numel(), 1))[
        : torch.Size(shape).numel()
    ].reshape(shape)


def made(module: str, **shapes: tuple[int, ...]) -> dict[str, Tensor]:
    """Tensors of one module; two underscores in a slot stand for a dot."""
    return {
        f"{module}.{slot.replace('__', '.')}": numbers(*shape) for slot, shape in shapes.items()
    }


HADAMARD = {
    f"hada_w{i}_{half}": shape for i in (1, 2) for half, shape in (("a", (4, 2)), ("b", (2, 6)))
}
TUCKER = {
    f"hada_w{i}_{half}": shape for i in (1, 2) for half, shape in (("a", (2, 4)), ("b", (2, 3)))
}
ONE = {"lokr_w1_a": (2, 1), "lokr_w1_b": (1, 3)}
TWO = {"lokr_w2_a": (4, 2), "lokr_w2_b": (2, 4)}

# format -> tensors, metadata
SAFETENSORS: dict[str, tuple[dict[str, Tensor], dict[str, str]]] = {
    "kohya": (made(FLAT, lora_down__weight=(2, 6), lora_up__weight=(4, 2), alpha=()), SS),
    "kohya dora": (
        made(FLAT, lora_down__weight=(2, 6), lora_up__weight=(4, 2), alpha=(), dora_scale=(4, 1)),
        SS,
    ),
    "kohya flux fused": (
        made(
            "lora_unet_double_blocks_0_img_attn_qkv",
            lora_down__weight=(2, 6),
            lora_up__weight=(12, 2),
            alpha=(),
        ),
        SS | {"ss_network_args": '{"split_qkv": "True"}'},
    ),
    "locon": (
        made(
            f"{FLAT}_conv",
            lora_down__weight=(2, 3, 1, 1),
            lora_mid__weight=(2, 2, 3, 3),
            lora_up__weight=(4, 2, 1, 1),
            alpha=(),
        ),
        SS,
    ),
    "loha": (made(FLAT, **HADAMARD, alpha=()), SS),
    "loha tucker": (made(FLAT, **TUCKER, hada_t1=(2, 2, 3, 3), hada_t2=(2, 2, 3, 3), alpha=()), SS),
    "lokr": (made(FLAT, **ONE, **TWO, alpha=()), SS),
    "lokr whole": (made(FLAT, lokr_w1=(2, 3), lokr_w2=(4, 4), alpha=()), SS),
    "lokr tucker": (
        made(FLAT, lokr_w1=(2, 3), lokr_t2=(2, 2, 3, 3), lokr_w2_a=(2, 4), lokr_w2_b=(2, 4), alpha=()),
        SS,
    ),
    "glora": (
        made(FLAT, a1__weight=(2, 6), a2__weight=(6, 2), b1__weight=(2, 6), b2__weight=(4, 2), alpha=()),
        SS,
    ),
    "oft": (made(FLAT, oft_blocks=(2, 2, 2), alpha=()), SS),
    "ia3": (made(FLAT, weight=(4, 1), on_input=()), SS),
    "full": (made(FLAT, diff=(4, 6), diff_b=(4,)), SS),
    "diffusers attention processors": (
        made(
            Q.removeprefix("unet.").replace("to_q", "processor.to_q_lora"),
            down__weight=(2, 6),
            up__weight=(4, 2),
        ),
        {},
    ),
    "diffusers unet": (made(Q, lora__down__weight=(2, 6), lora__up__weight=(4, 2)), {}),
    "diffusers text encoder": (
        made(
            "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
            lora_linear_layer__down__weight=(2, 6),
            lora_linear_layer__up__weight=(4, 2),
        ),
        {},
    ),
    "diffusers flux": (
        made("transformer.transformer_blocks.0.attn.to_q", lora_A__weight=(2, 6), lora_B__weight=(4, 2)),
        {"lora_adapter_metadata": json.dumps({"transformer.r": 2, "transformer.lora_alpha": 4})},
    ),
    "xlabs": (
        made("double_blocks.0.processor.qkv_lora1", down__weight=(2, 6), up__weight=(12, 2)),
        {},
    ),
    "bfl": (
        made("double_blocks.0.img_attn.qkv", lora_A__weight=(2, 6), lora_B__weight=(12, 2), lora_B__bias=(12,))
        | made("double_blocks.0.img_attn.norm.key_norm", scale=(4,)),
        {},
    ),
    "comfy": (
        made("diffusion_model.double_blocks.0.img_attn.proj", lora_A__weight=(2, 6), lora_B__weight=(4, 2)),
        {},
    ),
    "cloneofsimo": (
        {"unet:0:down": numbers(2, 6), "unet:0:up": numbers(4, 2), "<s1>": numbers(8)},
        {"unet": '["CrossAttention"]', "unet:0:rank": "2", "<s1>": "<embed>"},
    ),
    "torchtune": (
        made("layers.0.attn.q_proj", lora_a__weight=(2, 6), lora_b__weight=(4, 2)),
        {},
    ),
}  # fmt: skip


def write_safetensors(name: str, folder: Path) -> Path:
    tensors, metadata = SAFETENSORS[name]
    path = folder / "lora.safetensors"
    save_file(tensors, path, metadata)
    return path


def write_peft(folder: Path) -> Path:
    path = folder / "adapter_model.safetensors"
    save_file(made(PEFT, lora_A__weight=(2, 6), lora_B__weight=(4, 2)), path)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return path


def write_peft_native(folder: Path, kind: str, **shapes: tuple[int, ...]) -> Path:
    path = folder / "adapter_model.safetensors"
    save_file(made(PEFT, **shapes), path)
    config = {"peft_type": kind, "r": 2, "alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return path


def write_peft_loha(folder: Path) -> Path:
    return write_peft_native(folder, "LOHA", **HADAMARD)


def write_peft_lokr(folder: Path) -> Path:
    return write_peft_native(folder, "LOKR", lokr_w1=(2, 3), **TWO)


def write_mlx(folder: Path) -> Path:
    path = folder / "adapters.safetensors"
    save_file(made("model.layers.0.self_attn.q_proj", lora_a=(6, 2), lora_b=(2, 4)), path)
    config = {
        "fine_tune_type": "lora",
        "num_layers": 1,
        "lora_parameters": {"rank": 2, "scale": 20.0},
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return path


def write_npz(folder: Path) -> Path:
    import numpy

    path = folder / "adapters.npz"
    tensors = made("model.layers.0.self_attn.q_proj", lora_a=(6, 2), lora_b=(2, 4))
    numpy.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})
    return path


def write_gguf(folder: Path) -> Path:
    import gguf

    path = folder / "lora.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    writer.add_tensor("blk.0.attn_v.weight.lora_a", numbers(2, 32).numpy())
    writer.add_tensor("blk.0.attn_v.weight.lora_b", numbers(4, 2).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_pickle(folder: Path) -> Path:
    path = folder / "adapter_model.bin"
    torch.save(made(PEFT, lora_A__weight=(2, 6), lora_B__weight=(4, 2)), path)
    return path


def write_list(folder: Path) -> Path:
    path = folder / "lora.pt"
    torch.save([numbers(4, 2), numbers(2, 6)], path)
    return path


OTHERS: dict[str, Callable[[Path], Path]] = {
    "peft": write_peft,
    "peft loha": write_peft_loha,
    "peft lokr": write_peft_lokr,
    "mlx": write_mlx,
    "npz": write_npz,
    "gguf": write_gguf,
    "pickle": write_pickle,
    "pickled list": write_list,
}
NAMES = (*SAFETENSORS, *OTHERS)


def write(name: str, folder: Path) -> Path:
    """Make the valid file of a format in a folder."""
    return OTHERS[name](folder) if name in OTHERS else write_safetensors(name, folder)
