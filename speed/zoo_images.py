"""The image part of `speed.zoo`: PEFT on the diffusers UNet one by one, and what a LoRA costs at least.

PEFT finetunes with the fused AdamW, samples all 49 prompts of a LoRA in one batch, and reads the same
labels as the zoo does.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lorascope.zoo.bases.faces.folder import load_faces
from lorascope.zoo.bases.faces.sampler import Predict, single
from lorascope.zoo.engine.fitted import untrained
from lorascope.zoo.engine.image.alone import adapt_unet, train_image_alone
from lorascope.zoo.engine.image.base import ImageBase, layout_of
from lorascope.zoo.engine.image.engine import ImageEngine
from lorascope.zoo.engine.image.evaluate import guide_of
from lorascope.zoo.engine.image.fit import fit_images
from lorascope.zoo.families.image_family import READ_TWICE, ImageFamily
from speed.clock import Clock

__all__ = ["flops_of", "matrix_peak", "start_image_alone"]


def start_image_alone(
    family: ImageFamily, autocast: bool, attention: str, device: str = "cpu"
) -> Callable[[Any], list[dict[str, Any]]]:
    """A worker that does one job after another with PEFT."""
    base = ImageEngine().load(family.base_folder, torch.float32, False)
    unet = load_faces(family.base).unet.to(device, memory_format=torch.channels_last)
    if attention == "eager":
        unet.set_default_attn_processor()
    model = adapt_unet(unet, family.spec)

    def guide(texts: Tensor, empty: Tensor) -> Predict:
        predict = single(model, texts[0].to(device), empty[None].to(device))
        kind = torch.device(device).type

        def noise(latents: Tensor, at: int) -> Tensor:
            with torch.no_grad(), torch.autocast(kind, torch.bfloat16, enabled=autocast):
                return predict(latents[0].to(device), at)[None].float().cpu()

        return noise

    def work(index: int) -> list[dict[str, Any]]:
        job = family.job(index)
        text = base.read(job.prompt[None])
        train_image_alone(model, family.spec, job, text, base.levels, fused=True, autocast=autocast)
        again = index % READ_TWICE == 0
        return family.labels(guide, [index], again=again)

    assert family.before is not None  # the base's own samples, once
    return work


def flops_of(family: ImageFamily, indices: list[int]) -> tuple[float, float]:
    """Floating-point operations of a LoRA on average: training, and labels."""
    base: ImageBase = ImageEngine().load(family.base_folder, torch.float32, False)
    job = family.job(indices[0])
    with FlopCounterMode(display=False) as counter:
        fit_images(base, family.spec, [job])
    row = counter.get_total_flops() / (job.steps * job.batch_size)
    rows = [family.hyper(i)["steps"] * family.hyper(i)["batch_size"] for i in indices]
    fitted = untrained(family.spec, layout_of(base, [family.spec]))
    assert family.before is not None
    with FlopCounterMode(display=False) as counter:
        family.labels(guide_of(base, fitted, 3.0), [indices[0]])
    return row * sum(rows) / len(rows), counter.get_total_flops() * (1 + 1 / READ_TWICE)


def matrix_peak(dtype: torch.dtype, device: str = "cpu") -> float:
    """Floating-point operations a second in a product of two matrices: of a GPU, or of one thread."""
    clock, threads = Clock(device, 20), torch.get_num_threads()
    size = 1024 if torch.device(device).type == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    torch.set_num_threads(1)
    try:
        return 2 * size**3 / min(clock.once(lambda: a @ b) for _ in range(clock.repeats))
    finally:
        torch.set_num_threads(threads)
