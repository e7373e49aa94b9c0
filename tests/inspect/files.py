"""Files to look into: kohya's grammar at SD1's names and sizes, small in number, and adapters of PEFT."""

import json

import torch
from safetensors.torch import save_file

UNET = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_"
SD1 = {
    f"{UNET}attn2_to_k": (320, 768),
    f"{UNET}attn2_to_v": (320, 768),
    f"{UNET}attn1_to_q": (320, 320),
}
METADATA = {
    "ss_network_module": "networks.lora",
    "ss_network_dim": "4",
    "ss_network_alpha": "2.0",
    "ss_base_model_version": "sd_v1",
    "ss_learning_rate": "0.0001",
    "ss_output_name": "my-dog",
    "modelspec.trigger_phrase": "sks dog, best dog",
    "ss_tag_frequency": json.dumps({"10_dog": {"dog": 20, "grass": 7}}),
}


def kohya_tensors(layers=None, rank=4, alpha=2.0, seed=0, dtype=torch.float16):
    """Tensors of a kohya file."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (n, m) in (layers or SD1).items():
        down, up = torch.randn(rank, m, generator=draw), torch.randn(n, rank, generator=draw)
        tensors[f"{name}.lora_down.weight"] = (down * 0.05).to(dtype)
        tensors[f"{name}.lora_up.weight"] = (up * 0.05).to(dtype)
        tensors[f"{name}.alpha"] = torch.tensor(alpha, dtype=dtype)
    return tensors


def write_kohya(path, metadata=None, **options):
    """A kohya file; metadata replaces or adds to METADATA, None values remove."""
    told = {k: v for k, v in {**METADATA, **(metadata or {})}.items() if v is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(kohya_tensors(**options), path, told)
    return path


def write_peft(folder, rank=2, base="tiny", **config):
    """An adapter's folder of two layers of Qwen2-0.5B's names and sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = torch.Generator().manual_seed(0)
    tensors = {}
    for block in range(2):
        stem = f"base_model.model.model.layers.{block}.self_attn.q_proj"
        tensors[f"{stem}.lora_A.weight"] = torch.randn(rank, 896, generator=draw) * 0.02
        tensors[f"{stem}.lora_B.weight"] = torch.randn(896, rank, generator=draw) * 0.02
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 4, "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(settings | config))
    return folder
