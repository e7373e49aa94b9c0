"""Ask many adapters the same questions at once.

The options of a question share its prefix, so the prefix goes through the base once: a row is

    prefix, option 0 without its last token, option 1 without its last token, ...

where a token of an option sees the prefix and the earlier tokens of its own option, and stands at
the position where it would stand alone. The answers are those of scoring each option by itself.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.dora import with_gains
from lorascope.zoo.engine.fitted import Fitted, untrained
from lorascope.zoo.engine.language.fit import SLOTS, layout_of
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.group import answer_width, answers
from lorascope.zoo.engine.language.jobs import ChoiceSet
from lorascope.zoo.engine.language.kernels import frozen, kernels_for
from lorascope.zoo.engine.language.network import answer_losses, pairs_by_block, views

__all__ = ["choice_log_likelihoods", "weighted_loss"]

ROWS = 8  # questions at once, for each adapter


@dataclass(frozen=True, eq=False)
class Rows:
    """What is asked of every adapter; index 0 counts the questions."""

    tokens: Tensor  # (e, t)
    positions: Tensor  # (e, t)
    mask: Tensor  # (e, t, t) bool
    places: Tensor  # (e, q)
    labels: Tensor  # (e, q, w)

    def take(self, index: Tensor, device: torch.device) -> "Rows":
        """The questions of an index of any shape, on a device; past the end the last is repeated."""
        index = index.clamp(max=len(self.tokens) - 1)
        return Rows(*(getattr(self, name)[index].to(device) for name in self.__dataclass_fields__))


@torch.no_grad()
def choice_log_likelihoods(
    base: nn.Module | FrozenBase,
    spec: AdapterSpec,
    fitted: Fitted | None,
    choices: ChoiceSet,
    *,
    dtype: torch.dtype | None = None,
    compile: bool | None = None,
    slots: int = SLOTS,
) -> Tensor:
    """Summed log-likelihood of each option given its prefix: (g, questions, options).

    Without `fitted` the base alone is asked, and g is 1.
    """
    losses = _ask(frozen(base, dtype, compile), spec, fitted, choice_rows(choices), slots)
    longest = choices.options.shape[2]
    first = losses[:, :, 0, :]  # (g, e, options)
    if longest == 1:
        return -first
    rest = losses[:, :, 1:, 0].view(*first.shape, longest - 1)
    used = torch.arange(1, longest) < choices.option_lengths[..., None]
    return -(first + torch.where(used, rest, 0).sum(3))


@torch.no_grad()
def weighted_loss(
    base: nn.Module | FrozenBase,
    spec: AdapterSpec,
    fitted: Fitted | None,
    tokens: Tensor,  # (e, t)
    weights: Tensor,  # (e, t)
    *,
    dtype: torch.dtype | None = None,
    compile: bool | None = None,
    slots: int = SLOTS,
) -> Tensor:
    """sum(weights * cross entropy) / sum(weights) over all examples: (g,)."""
    places, labels, chosen = answers(tokens, weights, answer_width(weights))
    inputs = tokens[:, :-1]
    length = inputs.shape[1]
    rows = Rows(
        inputs,
        torch.arange(length).expand_as(inputs),
        torch.ones(length, length, dtype=torch.bool).tril().expand(len(tokens), -1, -1),
        places,
        labels[..., None],
    )
    losses = _ask(frozen(base, dtype, compile), spec, fitted, rows, slots)[..., 0]
    chosen = chosen.double()
    return ((losses * chosen).sum((1, 2)) / chosen.sum()).to(losses.dtype)


def choice_rows(choices: ChoiceSet) -> Rows:
    """The questions as rows: prefix once, then the options side by side."""
    questions, count, longest = choices.options.shape
    width, each = choices.prefixes.shape[1], longest - 1
    total = width + count * each
    lengths = choices.prefix_lengths[:, None]
    tokens = torch.cat((choices.prefixes, choices.options[..., :-1].flatten(1)), 1)
    inside = torch.arange(each).repeat(count).expand(questions, -1)
    start = torch.arange(width).expand(questions, -1)
    own = torch.arange(count).repeat_interleave(each) if each else torch.zeros(0).long()
    option = torch.cat((torch.full((width,), -1), own))
    column = torch.arange(total)
    same = option[:, None] == option[None, :]
    shared = (option == -1)[None, :] & (column < lengths)  # (questions, total)
    mask = (same | shared[:, None, :]) & (column[:, None] >= column)
    labels = torch.zeros(questions, 1 + count * each, count, dtype=torch.int64)
    labels[:, 0] = choices.options[..., 0]
    labels[:, 1:, 0] = choices.options[..., 1:].flatten(1)
    return Rows(
        tokens,
        torch.cat((start, lengths + inside), 1),
        mask,
        torch.cat((lengths - 1, torch.arange(width, total).expand(questions, -1)), 1),
        labels,
    )


def _ask(
    base: FrozenBase, spec: AdapterSpec, fitted: Fitted | None, rows: Rows, slots: int
) -> Tensor:
    """Losses of every label for every adapter: (g, e, q, w) on the CPU."""
    kernels = kernels_for(base.compiled and fitted is not None)
    fitted = fitted or untrained(spec, layout_of(base, [spec]))
    factors = with_gains(fitted.layout, fitted.scaled.to(base.device), base.weight_of)
    factors = factors.to(base.dtype)
    chunks = math.ceil(len(rows.tokens) / ROWS)
    # a slot is one adapter and one chunk of questions, so that any number of adapters fills them
    adapters = torch.arange(len(fitted)).repeat_interleave(chunks)
    firsts = torch.arange(chunks).repeat(len(fitted)) * ROWS
    slots = slots if kernels.static else min(slots, len(adapters))
    parts = []
    for start in range(0, len(adapters), slots):
        index = torch.arange(start, start + slots).clamp(max=len(adapters) - 1)
        asked = factors[adapters[index].to(base.device)]
        pairs = pairs_by_block(fitted.layout.unpack(asked), len(base.blocks))
        some = rows.take(firsts[index][:, None] + torch.arange(ROWS), base.device)
        seen = views(base, some.positions, some.mask, some.places)
        parts.append(answer_losses(base, kernels, some.tokens, some.labels, seen, pairs))
    losses = torch.cat(parts)[: len(adapters)].cpu()
    return losses.view(len(fitted), chunks * ROWS, *losses.shape[2:])[:, : len(rows.tokens)]
