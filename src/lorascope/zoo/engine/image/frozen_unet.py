"""`FrozenUNet`: the weights of a diffusers UNet2DConditionModel by name, and the plan of its parts.

It holds numbers and names, no modules: `network.py` goes through the plan (`plan.py`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lorascope.zoo.engine.image.network import lates_of
from lorascope.zoo.engine.image.plan import Plan, Planner
from lorascope.zoo.engine.image.quick import library
from lorascope.zoo.engine.image.quick_blocks import Packed, pack

__all__ = ["FrozenUNet"]


@dataclass(frozen=True, eq=False)
class FrozenUNet:
    """Everything of a UNet that does not change."""

    plan: Plan
    weights: Mapping[str, Tensor]
    clock: Callable[[Tensor], Tensor]  # times (k,) -> (k, width): diffusers' sines
    dtype: torch.dtype
    #: layer -> n, m and the kernel of a convolution, of all that can be adapted
    layers: Mapping[str, tuple[int, int, tuple[int, ...] | None]]
    #: what the kernels in C read, where they are used (`quick.py`, `quick_blocks.py`)
    packed: Packed | None = None

    @classmethod
    def of(cls, unet: nn.Module, dtype: torch.dtype = torch.float32) -> "FrozenUNet":
        """Freeze a UNet2DConditionModel.

        Raises:
            DataError: it has parts that are not supported, named in the message.
        """
        plan = Planner(unet).plan()
        layers: dict[str, tuple[int, int, tuple[int, ...] | None]] = {}
        for name, module in unet.named_modules():
            if isinstance(module, nn.Conv2d):
                size = module.kernel_size
                layers[name] = (module.out_channels, module.in_channels * size[0] * size[1], size)
            elif isinstance(module, nn.Linear):
                layers[name] = (module.out_features, module.in_features, None)
        weights = {name: value.detach() for name, value in unet.state_dict().items()}
        clock: Any = unet.get_submodule("time_proj")
        return cls(plan, weights, clock, dtype, layers).to(dtype)

    def quickened(self) -> "FrozenUNet":
        """The same with the kernels in C, where there are any for its dtype."""
        there = self.device.type == "cpu" and self.dtype in (torch.bfloat16, torch.float32)
        if not there or library() is None:
            return self
        return replace(self, packed=pack(self.plan, self.weights))

    def lates(self, time: int) -> Mapping[str, Tensor]:
        """What each resnet adds of a time: (1, 1, d), made once for each time."""
        if time not in self._known_lates:
            self._known_lates[time] = lates_of(self.plan, self.weights, {}, self.ticks(time))
        return self._known_lates[time]

    @cached_property
    def _known_lates(self) -> dict[int, Mapping[str, Tensor]]:
        return {}

    def ticks(self, time: int) -> Tensor:
        """The sines of a time: (1, 1, width)."""
        return self.clock(torch.tensor([time], device=self.device)).to(self.dtype)[None]

    def matrix(self, layer: str) -> Tensor:
        """The weight of a layer as a matrix: (n, m)."""
        return self.weights[f"{layer}.weight"].flatten(1)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(iter(self.weights.values())).device

    def to(self, dtype: torch.dtype, device: torch.device | None = None) -> "FrozenUNet":
        """The same in another dtype, on another device; convolutions lie channels last."""
        weights = {}
        for name, value in self.weights.items():
            kind = torch.channels_last if value.ndim == 4 else torch.contiguous_format
            moved = value.to(device=device or value.device, dtype=dtype)
            weights[name] = moved.contiguous(memory_format=kind)
        made = replace(self, weights=weights, dtype=dtype, packed=None)
        return made if self.packed is None else made.quickened()
