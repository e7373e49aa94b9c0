"""One adapter the ordinary way: PEFT on the transformers model, one job at a time.

The oracle of the batched trainer and the baseline of its timing. It takes from a job's seed the
same A, order of data and dropout masks; everything else is PEFT, transformers and torch.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.draws import (
    byte_bank,
    data_order,
    dropout_threshold,
    first_factors,
    mask_offsets,
)
from lorascope.zoo.engine.language.jobs import FitJob
from lorascope.zoo.engine.peft_model import adapted_layers, device_of, wrap

__all__ = [
    "SeededDropout",
    "adapt",
    "fit_alone",
    "sequence_loss",
    "train_alone",
]


class SeededDropout(nn.Module):
    """PEFT's `lora_dropout` with the masks that a job's seed draws."""

    def __init__(self, offsets: Tensor, bank: Tensor, dropout: float):
        super().__init__()
        self.offsets, self.bank = offsets, bank
        self.threshold, self.scale = dropout_threshold(dropout)
        self.step = 0

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of x: (b, t, m), a training batch or the rows of a short one."""
        if not self.training:
            return x
        start = int(self.offsets[self.step])
        self.step += 1
        noise = self.bank[start : start + x.numel()].view(x.shape)
        return torch.where(noise >= self.threshold, x * self.scale, 0)


def adapt(base: nn.Module, spec: AdapterSpec) -> Any:
    """Wrap a transformers model with PEFT (in place: `unload()` gives it back)."""
    # any dropout: each job puts its own in place
    return wrap(base, spec, lora_dropout=0.5, task_type="CAUSAL_LM")


def _seed(model: Any, spec: AdapterSpec, job: FitJob, *, masks: bool) -> None:
    """Start afresh from a job's seed: A, B = 0, magnitudes, dropout."""
    layers = adapted_layers(model)
    shapes = {name: (m.out_features, m.in_features) for name, m in layers.items()}
    ranks = {name: spec.rank_of(name) for name in layers}
    for name, A in first_factors(job.seed, shapes, ranks).items():
        layers[name].lora_A.default.weight.data.copy_(A)
        nn.init.zeros_(layers[name].lora_B.default.weight)
        if spec.dora:
            norms = layers[name].get_base_layer().weight.norm(dim=1)
            layers[name].lora_magnitude_vector.default.weight.data.copy_(norms)
        layers[name].lora_dropout["default"] = nn.Dropout(job.dropout)
    if masks and job.dropout > 0:
        tokens = job.batch_size * (job.tokens.shape[1] - 1)
        windows = {name: tokens * m for name, (_, m) in shapes.items()}
        bank = byte_bank(max(windows.values())).to(device_of(model))
        for name, offsets in mask_offsets(job.seed, job.steps, windows).items():
            layers[name].lora_dropout["default"] = SeededDropout(offsets, bank, job.dropout)


def sequence_loss(model: Any, tokens: Tensor, weights: Tensor) -> Tensor:
    """sum(weights * cross entropy) / sum(weights) of a batch. tokens, weights: (b, t) -> ().

    Logits are made from the first weighted token on: a big vocabulary's head is a fifth of the work.
    """
    first = int((weights > 0).any(0).nonzero()[0])
    tokens, weights = (part.to(device_of(model)) for part in (tokens, weights[:, first:]))
    kept = weights.shape[1]
    logits = model(input_ids=tokens[:, :-1], use_cache=False, logits_to_keep=kept).logits
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = F.cross_entropy(logits.flatten(0, 1), tokens[:, first:].flatten(), reduction="none")
    chosen = weights.flatten().to(losses.dtype)
    return (losses * chosen).sum() / chosen.sum()


def fit_alone(base: nn.Module, spec: AdapterSpec, job: FitJob) -> Any:
    """Finetune one adapter with PEFT; returns the PEFT model, in evaluation mode.

    The transformers model is wrapped in place; `unload()` of the answer undoes it.
    """
    model = adapt(base, spec)
    train_alone(model, spec, job)
    return model


def train_alone(
    model: Any, spec: AdapterSpec, job: FitJob, *, masks: bool = True, autocast: bool = False
) -> None:
    """Train the adapter of a PEFT model afresh, where the model lies.

    Args:
        masks: dropout by the masks of the job's seed, else torch's own.
        autocast: run the model under bfloat16 autocast.
    """
    from transformers import get_linear_schedule_with_warmup

    _seed(model, spec, job, masks=masks)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        trained, lr=job.learning_rate, weight_decay=job.weight_decay, fused=not masks
    )
    schedule = get_linear_schedule_with_warmup(optimiser, job.warmup, job.steps)
    model.train()
    for rows in data_order(job.seed, len(job.tokens), job.epochs, job.batch_size):
        rows = rows[rows >= 0]
        with torch.autocast(device_of(model).type, torch.bfloat16, enabled=autocast):
            loss = sequence_loss(model, job.tokens[rows], job.weights[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, job.clip_norm)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
    model.eval()
