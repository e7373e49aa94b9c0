"""`Fitted`: the adapters of one group after training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorascope.core.lora import LoRA, Provenance, Scale, Side
from lorascope.core.low_rank import LowRank
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.layout import Layout

__all__ = ["Fitted", "Layout", "join", "untrained"]


@dataclass(frozen=True, eq=False)
class Fitted:
    """Adapters after training; index 0 of every tensor counts the adapters."""

    specs: tuple[AdapterSpec, ...]  # one for each adapter
    layout: Layout
    rows: Tensor  # (g, p): the numbers as trained, without the scale
    loss: Tensor  # (g,): mean training loss over the last epoch
    steps: Tensor  # (g,) int64
    finite: Tensor  # (g,) bool: False where training diverged; the last finite factors are kept

    def __len__(self) -> int:
        return int(self.rows.shape[0])

    @property
    def A(self) -> dict[str, Tensor]:  # noqa: N802 - PEFT's letter
        """PEFT's A of each layer, zero beyond an adapter's own rank: (g, r, m)."""
        return {name: factors.A for name, factors in self.layout.unpack(self.rows).items()}

    @property
    def B(self) -> dict[str, Tensor]:  # noqa: N802 - PEFT's letter
        """PEFT's B of each layer, without the scale: (g, n, r)."""
        return {name: factors.B for name, factors in self.layout.unpack(self.rows).items()}

    @property
    def scaled(self) -> Tensor:
        """The rows with the scale in B, as the engines compute with them: (g, p)."""
        return self.rows * self.layout.scales(self.specs, self.rows.dtype)

    def select(self, index: Sequence[int] | Tensor) -> "Fitted":
        """Some of the adapters, in the order asked for."""
        i = torch.as_tensor(index)
        specs = tuple(self.specs[j] for j in i.tolist())
        return Fitted(specs, self.layout, self.rows[i], self.loss[i], self.steps[i], self.finite[i])

    def to_lora(self, i: int, *, base: str | None = None) -> LoRA:
        """Adapter `i` as a value, cut to its own ranks, the scale folded into u.

        The magnitudes of DoRA stand beside the layers, as the PEFT reader gives them.
        """
        spec = self.specs[i]
        rule = "alpha/sqrt(r)" if spec.rslora else "alpha/r"
        layers: dict[str, LowRank] = {}
        scales: dict[str, Scale] = {}
        side: dict[str, Side] = {}
        for name, (A, B, magnitude) in self.layout.unpack(self.rows[i : i + 1]).items():
            rank, factor = spec.rank_of(name), spec.factor_of(name)
            u, v = factor * B[0, :, :rank], A[0, :rank].mT.contiguous()
            layers[name] = LowRank(u, v, self.layout.shapes[name].kernel)
            scales[name] = Scale(alpha=spec.alpha_of(name), rank=rank, factor=factor, rule=rule)
            if magnitude is not None:
                side[f"{name}.dora_magnitude"] = Side("dora_magnitude", magnitude[0].clone())
        provenance = Provenance(base=base, scales=scales, config=config_of(spec), left=_left(side))
        return LoRA(layers, side, provenance)


def config_of(spec: AdapterSpec) -> dict[str, Any]:
    """The configuration of an adapter in PEFT's words."""
    config: dict[str, Any] = {
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "target_modules": list(spec.targets),
        "use_rslora": spec.rslora,
    }
    if spec.rank_pattern or spec.alpha_pattern:
        config["rank_pattern"] = dict(spec.rank_pattern)
        config["alpha_pattern"] = dict(spec.alpha_pattern)
    if spec.dora:
        config["use_dora"] = True
    return config


def _left(side: dict[str, Side]) -> tuple[str, ...]:
    if not side:
        return ()
    return (
        f"dora_rows: {len(side)} layers: DoRA's magnitudes of the rows act on the base weights and "
        "are kept beside; u v^T is the direction part",
    )


def join(parts: Sequence[Fitted]) -> Fitted:
    """Adapters of several groups of one layout in a row."""
    rows, loss, steps, finite = (
        torch.cat([getattr(part, name) for part in parts])
        for name in ("rows", "loss", "steps", "finite")
    )
    specs = tuple(spec for part in parts for spec in part.specs)
    return Fitted(specs, parts[0].layout, rows, loss, steps, finite)


def untrained(spec: AdapterSpec, layout: Layout, dtype: torch.dtype = torch.float32) -> Fitted:
    """One adapter as it starts: the base alone."""
    return Fitted(
        (spec,),
        layout,
        layout.first([spec], [0], dtype),
        loss=torch.zeros(1),
        steps=torch.zeros(1, dtype=torch.int64),
        finite=torch.ones(1, dtype=torch.bool),
    )
