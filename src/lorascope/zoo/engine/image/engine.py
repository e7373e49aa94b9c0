"""The engine of image families: a Stable Diffusion pipeline's UNet."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.fitted import Fitted
from lorascope.zoo.engine.grouping import JobShape
from lorascope.zoo.engine.image.base import ImageBase, load_image_base
from lorascope.zoo.engine.image.fit import SLOTS, fit_images, shape_of
from lorascope.zoo.engine.image.job import ImageJob
from lorascope.zoo.engine.image.quick import library

__all__ = ["ImageEngine"]

CPU = torch.device("cpu")


class ImageEngine:
    """Finetunes UNets, many adapters at once."""

    slots: ClassVar[int] = SLOTS
    per_lane: ClassVar[int] = 2  # steps of two LoRAs balance; labels make a group long
    exact_steps: ClassVar[int] = 8

    def compiles(self) -> bool:
        """Whether kernels can be compiled here; says so once where they cannot."""
        return library() is not None

    def load(
        self,
        folder: Path,
        dtype: torch.dtype,
        compiled: bool,
        device: torch.device = CPU,
        exact_steps: int = 0,
    ) -> ImageBase:
        """The base of a pipeline's folder, its UNet on the device that trains."""
        base = load_image_base(folder, torch.float32 if exact_steps else dtype, compiled, device)
        return base.opened(dtype, exact_steps)

    def shape(self, job: ImageJob) -> JobShape:
        """What decides with which others a job trains."""
        return shape_of(job)

    def fit(
        self,
        base: ImageBase,
        specs: AdapterSpec | Sequence[AdapterSpec],
        jobs: Sequence[ImageJob],
        slots: int,
    ) -> Fitted:
        """One adapter for each job, in their order."""
        return fit_images(base, specs, jobs, slots=slots)
