"""`ImageBase`: what image adapters are finetuned on: a frozen UNet, texts and noise levels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorascope.errors import DataError, FileError, MissingExtraError, TrainingError
from lorascope.zoo.bases.quiet import quiet_loading
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.image.frozen_unet import FrozenUNet
from lorascope.zoo.engine.layout import LayerShape, Layout
from lorascope.zoo.engine.opening import opens

__all__ = ["ImageBase", "layout_of", "load_image_base"]

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class ImageBase:
    """A base ready for training; what it computes in is the UNet's dtype."""

    unet: FrozenUNet
    read: Callable[[Tensor], Tensor]  # token ids (k, t) -> texts (k, t, width)
    levels: Tensor  # (times,) float64: the share of the image's variance at each time
    exact: "ImageBase | None" = None  # in float32, for the first steps (`opening.py`)
    exact_steps: int = 0  # of each adapter

    @classmethod
    def of(
        cls,
        unet: nn.Module,
        text_encoder: Callable[[Tensor], Any],
        levels: Tensor,
        dtype: torch.dtype = torch.float32,
    ) -> "ImageBase":
        """Freeze the parts of a pipeline.

        Raises:
            DataError: the UNet has parts that are not supported.
        """

        @torch.no_grad()
        def read(ids: Tensor) -> Tensor:
            texts: Tensor = text_encoder(ids)[0]
            return texts

        return cls(FrozenUNet.of(unet, dtype), read, levels.double())

    @property
    def later(self) -> "ImageBase":
        """What adapters are trained on after their first steps."""
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Of the activations."""
        return self.unet.dtype

    @property
    def device(self) -> torch.device:
        """Where the UNet lies, and where everything is computed; texts are read where their encoder is."""
        return self.unet.device

    def to(
        self, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> "ImageBase":
        """The same in another dtype, on another device."""
        unet = self.unet.to(dtype or self.dtype, device)
        levels = self.levels.to(unet.device)
        return replace(self, unet=unet, levels=levels, exact=None, exact_steps=0)

    def opened(self, dtype: torch.dtype, steps: int) -> "ImageBase":
        """This base in another dtype, for all but the first steps of each adapter."""
        if dtype == self.dtype:
            return self
        coarse = steps > 0 and opens(dtype)
        return replace(self.to(dtype), exact=self if coarse else None, exact_steps=steps)


def layout_of(base: ImageBase, specs: Sequence[AdapterSpec]) -> Layout:
    """Where the numbers of adapters of these specs lie on this base.

    Raises:
        TrainingError: the UNet has no module that the targets name, or the specs do not go together.
    """
    targets = specs[0].targets
    shapes = {
        name: LayerShape(n, m, kernel or ())
        for name, (n, m, kernel) in base.unet.layers.items()
        if any(name == target or name.endswith(f".{target}") for target in targets)
    }
    if not shapes:
        known = sorted({path.rsplit(".", 1)[-1] for path in base.unet.layers if "." in path})
        raise TrainingError(
            f"laying out adapters: no module of the UNet ends in {list(targets)}. Try {known}"
        )
    norms = {name: base.unet.matrix(name).double().norm(dim=1) for name in shapes}
    return Layout.of(shapes, specs, norms)


def load_image_base(
    folder: Path, dtype: torch.dtype, compiled: bool, device: torch.device = CPU
) -> ImageBase:
    """The base of a Stable Diffusion pipeline's folder; the kernels in C are for the CPU alone.

    Raises:
        FileError: there is no such folder.
        DataError: the pipeline is of a kind that is not supported.
        MissingExtraError: diffusers or transformers is not installed.
    """
    try:
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextModel
    except ImportError as missing:
        raise MissingExtraError("diffusers", "zoo", f"loading the base {folder}") from missing
    for part in ("unet", "text_encoder", "scheduler"):
        if not (folder / part).is_dir():
            raise FileError(
                f"loading the base {folder}: there is no {part}/ in it. Try a folder that a "
                "StableDiffusionPipeline's save_pretrained made"
            )
    with quiet_loading():
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", local_files_only=True)
        encoder = CLIPTextModel.from_pretrained(
            folder / "text_encoder", local_files_only=True, attn_implementation="eager"
        )
    encoder.float().eval().requires_grad_(False)
    unet.float().eval().requires_grad_(False)
    base = ImageBase.of(unet, encoder, noise_levels_of(folder / "scheduler"), dtype)
    if device.type != "cpu":
        return base.to(device=device)
    return replace(base, unet=base.unet.quickened()) if compiled else base


def noise_levels_of(folder: Path) -> Tensor:
    """The schedule's levels of a scheduler's folder: (times,)."""
    from diffusers import DDPMScheduler

    schedule = DDPMScheduler.from_pretrained(folder, local_files_only=True)
    kind = schedule.config.prediction_type
    if kind != "epsilon":
        raise DataError(
            f"loading the schedule {folder}: found the prediction type {kind!r}, expected 'epsilon' "
            "(the noise). Try Stable Diffusion 1"
        )
    levels: Tensor = schedule.alphas_cumprod
    return levels
