"""One training loop for the three parts of the faces base, resumable from a checkpoint.

The loss of a step depends on the step's own generator alone, so a run that was stopped and resumed
ends with the same weights as one that was not.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

__all__ = ["Plan", "Progress", "train"]

Progress = Callable[[str, int, int, float], None]  # part, step, steps, loss
SAVE_EVERY = 200  # steps


@dataclass(frozen=True)
class Plan:
    """How one part is trained: AdamW, linear warm-up, cosine decay to 2 %."""

    part: str
    steps: int
    rate: float
    seed: int
    warmup: int = 50
    weight_decay: float = 0.01
    average: float | None = None  # decay of the running mean of the weights, which is the result
    checkpoint: Path | None = None  # file to resume from; deleted by nobody

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        cosine = 0.51 + 0.49 * float(torch.tensor(torch.pi * step / self.steps).cos())
        return self.rate * min(1.0, (step + 1) / self.warmup) * cosine


def train(
    module: nn.Module,
    loss_of: Callable[[torch.Generator], Tensor],
    plan: Plan,
    progress: Progress | None = None,
) -> nn.Module:
    """Train a module in place and return it, or the running mean of its weights."""
    optimiser = torch.optim.AdamW(
        module.parameters(), lr=plan.rate, weight_decay=plan.weight_decay, betas=(0.9, 0.98)
    )
    mean = copy.deepcopy(module) if plan.average is not None else module
    first = _resume(plan, module, mean, optimiser)
    for step in range(first, plan.steps):
        for group in optimiser.param_groups:
            group["lr"] = plan.rate_at(step)
        loss = loss_of(torch.Generator().manual_seed(1_000_003 * (plan.seed + 1) + step))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        if plan.average is not None:
            _follow(mean, module, min(plan.average, (step + 1) / (step + 10)))
        if progress is not None:
            progress(plan.part, step + 1, plan.steps, float(loss.detach()))
        if plan.checkpoint is not None and ((step + 1) % SAVE_EVERY == 0 or step + 1 == plan.steps):
            _save(plan.checkpoint, step + 1, module, mean, optimiser)
    return mean


@torch.no_grad()
def _follow(mean: nn.Module, module: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(mean.parameters()), list(module.parameters()), 1 - decay)


def _save(
    path: Path, step: int, module: nn.Module, mean: nn.Module, optimiser: torch.optim.Optimizer
) -> None:
    state = {
        "step": step,
        "module": module.state_dict(),
        "mean": mean.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial: Path = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _resume(
    plan: Plan, module: nn.Module, mean: nn.Module, optimiser: torch.optim.Optimizer
) -> int:
    """Load the checkpoint where there is one; the step to go on with."""
    if plan.checkpoint is None or not plan.checkpoint.is_file():
        return 0
    state = torch.load(plan.checkpoint, weights_only=True)
    module.load_state_dict(state["module"])
    mean.load_state_dict(state["mean"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])
