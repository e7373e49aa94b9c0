"""Tiny diffusers and transformers models, and what their own loaders add to the weights."""

import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from lorascope.core import LoRA
from tests.io.adapters import quiet


def unet() -> UNet2DConditionModel:
    """SDXL's layout, small."""
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=2, norm_num_groups=4,
        block_out_channels=(8, 16, 24), cross_attention_dim=12, attention_head_dim=4,
        transformer_layers_per_block=(1, 2, 2), use_linear_projection=True,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def flux() -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=2, num_single_layers=2, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=12, pooled_projection_dim=12,
        guidance_embeds=True, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip


def sd3() -> SD3Transformer2DModel:
    return SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=12, caption_projection_dim=16,
        pooled_projection_dim=12, out_channels=4, dual_attention_layers=(0,),
    )  # fmt: skip


def clip() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(vocab_size=20, hidden_size=16, intermediate_size=24, projection_dim=8,
                       num_hidden_layers=2, num_attention_heads=2)
    )  # fmt: skip


def t5() -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(vocab_size=20, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=2,
                 feed_forward_proj="gated-gelu")
    )  # fmt: skip


def matrices(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that LoRAs adapt."""
    kinds = (nn.Linear, nn.Conv2d)
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


def random_pair(module: nn.Module, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """down and up of a module, as LoRA trainers shape them."""
    n, m, *kernel = module.weight.shape
    down = torch.randn(rank, m, *kernel, generator=generator)
    return down, torch.randn(n, rank, *(1 for _ in kernel), generator=generator)


def loaded_deltas(model: nn.Module, prefix: str) -> dict[str, Tensor]:
    """What peft's layers inside a diffusers model add to each weight, by the names of lorascope."""
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight") and getattr(module, "lora_A", None):
            adapter = next(iter(module.lora_A))
            with torch.no_grad():
                found[f"{prefix}.{name}"] = module.get_delta_weight(adapter)
    return found


def load_adapter(model: nn.Module, state: dict[str, Tensor], **options) -> dict[str, Tensor]:
    """Load a state dict by the model's own method; what it adds to each weight."""
    prefix = options.pop("prefix", "transformer")
    with quiet():
        model.load_lora_adapter(dict(state), prefix=prefix, **options)
    return loaded_deltas(model, prefix)


def same(lora: LoRA, deltas: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """The same layers, the same updates."""
    assert set(lora) == set(deltas)
    for name, delta in deltas.items():
        update = torch.einsum("nr,mr->nm", lora[name].u.double(), lora[name].v.double())
        gap = (update.reshape(delta.shape) - delta).norm() / delta.norm().clamp(min=1e-30)
        assert float(gap) <= tolerance, f"{name}: relative error {float(gap):.1e}"
