"""One image adapter the ordinary way: PEFT on the diffusers UNet, one job at a time.

The oracle of the batched trainer and the baseline of its timing. It takes from a job's seed the
same A, pictures, times and noise; everything else is PEFT, diffusers and torch.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.draws import first_factors
from lorascope.zoo.engine.image.draws import noise_stream, picture_order, picture_times
from lorascope.zoo.engine.image.job import ImageJob
from lorascope.zoo.engine.peft_model import adapted_layers, device_of, wrap

__all__ = ["adapt_unet", "fit_image_alone", "train_image_alone"]


def adapt_unet(unet: nn.Module, spec: AdapterSpec) -> Any:
    """Wrap a UNet with PEFT (in place: `unload()` gives it back)."""
    return wrap(unet, spec)


def _seed(model: Any, spec: AdapterSpec, job: ImageJob) -> None:
    """Start afresh from a job's seed: A, B = 0, magnitudes the rows' norms."""
    layers = adapted_layers(model)
    shapes = {name: _matrix(m.base_layer.weight).shape for name, m in layers.items()}
    ranks = {name: spec.rank_of(name) for name in layers}
    for name, A in first_factors(job.seed, shapes, ranks).items():
        weight = layers[name].lora_A.default.weight
        weight.data.copy_(A.view(weight.shape))
        nn.init.zeros_(layers[name].lora_B.default.weight)
        if spec.dora:
            magnitude = layers[name].lora_magnitude_vector.default.weight
            norms = _matrix(layers[name].base_layer.weight).norm(dim=1)
            magnitude.data.copy_(norms.view(magnitude.shape))


def _matrix(weight: Tensor) -> Tensor:
    return weight.flatten(1)


def fit_image_alone(
    unet: nn.Module, spec: AdapterSpec, job: ImageJob, text: Tensor, levels: Tensor
) -> Any:
    """Finetune one adapter with PEFT; returns the PEFT model.

    Args:
        text: the encoded prompt (1, t, width).
        levels: the schedule's levels (times,).
    """
    model = adapt_unet(unet, spec)
    train_image_alone(model, spec, job, text, levels)
    return model


def train_image_alone(
    model: Any,
    spec: AdapterSpec,
    job: ImageJob,
    text: Tensor,
    levels: Tensor,
    *,
    fused: bool = False,
    autocast: bool = False,
) -> None:
    """Train the adapter of a PEFT model afresh, where the model lies; noise is drawn on the CPU.

    Args:
        fused: use the fused AdamW.
        autocast: run the model under bfloat16 autocast.
    """
    _seed(model, spec, job)
    trained = [p for p in model.parameters() if p.requires_grad]
    dtype, device = trained[0].dtype, device_of(model)
    text, levels = text.to(device, dtype), levels.to(device)
    optimiser = torch.optim.AdamW(
        trained, lr=job.learning_rate, weight_decay=job.weight_decay, fused=fused
    )
    generator = noise_stream(job)
    pairs = zip(picture_order(job), picture_times(job, len(levels)), strict=True)
    for order, times in pairs:
        clean = job.latents[order].to(device, dtype)
        noise = torch.randn(clean.shape, generator=generator).to(device, dtype)
        times = times.to(device)
        level = levels[times].to(dtype)[:, None, None, None]
        noisy = level.sqrt() * clean + (1 - level).sqrt() * noise
        texts = text.expand(len(order), -1, -1)
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            found = model(noisy, times, texts).sample
        (found.to(dtype) - noise).square().mean().backward()
        nn.utils.clip_grad_norm_(trained, job.clip_norm)
        optimiser.step()
        optimiser.zero_grad()
