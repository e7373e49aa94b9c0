"""Ask many adapters the same questions at once.

The options of a question share its prefix, so the prefix goes through the base once: a row is

    prefix, option 0 without its last token, option 1 without its last token, ...

where a token of an option sees the prefix and the earlier tokens of its own option, and stands at
the position where it would stand alone. The answers are those of scoring each option by itself.

What is padding is no work for the base's matrices (`causal_lm.py`), but for attention. Rows may be sorted:
those of about one length go through the base together. Else all are padded to the longest.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.dora import with_gains
from lorascope.zoo.engine.fitted import Fitted, untrained
from lorascope.zoo.engine.language.fit import SLOTS, layout_of
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.group import answer_width, answers
from lorascope.zoo.engine.language.jobs import ChoiceSet
from lorascope.zoo.engine.language.kernels import frozen, kernels_for
from lorascope.zoo.engine.language.network import (
    PADDING,
    SHARED,
    answer_losses,
    pairs_by_block,
    views,
    visible,
)
from lorascope.zoo.engine.language.packing import real_lengths
from lorascope.zoo.engine.language.ragged import Ragged

__all__ = [
    "choice_log_likelihoods",
    "choice_rows",
    "example_rows",
    "tokens_asked",
    "weighted_loss",
]

ROWS = 8  # questions at once, for each adapter
WINDOW = 24  # sorted rows of about one length: 64 leave 5 % of the tokens empty, 8 leave 41 % of the places


@dataclass(frozen=True, eq=False)
class Rows:
    """What is asked of every adapter; index 0 counts the questions."""

    tokens: Tensor  # (e, t)
    positions: Tensor  # (e, t)
    segments: Tensor  # (e, t): who sees whom (`network.visible`)
    places: Tensor  # (e, q)
    labels: Tensor  # (e, q, w)
    lengths: Tensor  # (e,): tokens up to the last that counts
    asked: Tensor  # (e,): places up to the last that counts

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, index: Tensor) -> "Rows":
        """The questions of an index of any shape; past the end stand empty rows."""
        held = index < len(self)
        index = index.clamp(max=len(self) - 1)
        found = Rows(*(getattr(self, name)[index] for name in self.__dataclass_fields__))
        return replace(found, lengths=found.lengths * held, asked=found.asked * held)

    def cut(self) -> "Rows":
        """The same rows, as long and with as many places as the longest needs."""
        t, q = int(self.lengths.max()), int(self.asked.max())
        told = [part[..., :t] for part in (self.tokens, self.positions, self.segments)]
        places = self.places[..., :q].clamp(max=t - 1)  # those past a row's last count for nothing
        parts = [*told, places, self.labels[..., :q, :], self.lengths, self.asked]
        return Rows(*parts)

    def to(self, device: torch.device) -> "Rows":
        """The same on a device."""
        return Rows(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    def ragged(self) -> tuple[Ragged, Ragged]:
        """The tokens that count in rows (..., t) and the places that do in rows (..., q); on the CPU."""
        parts = ((self.tokens.shape[-1], self.lengths), (self.places.shape[-1], self.asked))
        tokens, places = (
            Ragged.of(torch.arange(width) < counts[..., None], int(counts.sum()))
            for width, counts in parts
        )
        return tokens, places


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
    by_length: bool = False,
) -> Tensor:
    """Summed log-likelihood of each option given its prefix: (g, questions, options).

    Without `fitted` the base alone is asked, and g is 1. `by_length` sorts the rows.
    """
    rows = choice_rows(choices)
    losses = _ask(frozen(base, dtype, compile), spec, fitted, rows, slots, by_length)
    longest = choices.options.shape[2]
    first = losses[:, :, 0, :]  # (g, e, options)
    if longest == 1:
        return -first
    used = torch.arange(1, longest) < choices.option_lengths[..., None]
    # the place of each option's second token, counted over those that the rows hold
    place = used.flatten(1).cumsum(1).view(used.shape) * used
    rest = losses[..., 0].gather(2, place.flatten(1).expand(len(losses), -1, -1))
    return -(first + torch.where(used, rest.view(*first.shape, -1), 0).sum(3))


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
    by_length: bool = False,
) -> Tensor:
    """sum(weights * cross entropy) / sum(weights) over all examples: (g,). `by_length` sorts the rows."""
    rows, chosen = example_rows(tokens, weights)
    losses = _ask(frozen(base, dtype, compile), spec, fitted, rows, slots, by_length)[..., 0]
    chosen = chosen.double()
    return ((losses * chosen).sum((1, 2)) / chosen.sum()).to(losses.dtype)


def example_rows(tokens: Tensor, weights: Tensor) -> tuple[Rows, Tensor]:
    """Examples as rows, and the weights of their answers (e, q)."""
    places, labels, chosen = answers(tokens, weights, answer_width(weights))
    inputs = tokens[:, :-1]
    rows = Rows(
        inputs,
        torch.arange(inputs.shape[1]).expand_as(inputs),
        torch.zeros_like(inputs),
        places,
        labels[..., None],
        real_lengths(weights),
        (chosen > 0).sum(1),
    )
    return rows, chosen


def choice_rows(choices: ChoiceSet) -> Rows:
    """The questions as rows: prefix once, then the options side by side, without gaps."""
    return closed_up(gapped_rows(choices), valid_tokens(choices))


def gapped_rows(choices: ChoiceSet) -> Rows:
    """The questions as rows whose prefixes and options are as long as the longest."""
    questions, count, longest = choices.options.shape
    width, each = choices.prefixes.shape[1], longest - 1
    total = width + count * each
    lengths = choices.prefix_lengths[:, None]
    tokens = torch.cat((choices.prefixes, choices.options[..., :-1].flatten(1)), 1)
    inside = torch.arange(each).repeat(count).expand(questions, -1)
    start = torch.arange(width).expand(questions, -1)
    own = torch.arange(count).repeat_interleave(each) if each else torch.zeros(0).long()
    prefix = torch.where(start < lengths, SHARED, PADDING)
    labels = torch.zeros(questions, 1 + count * each, count, dtype=torch.int64)
    labels[:, 0] = choices.options[..., 0]
    labels[:, 1:, 0] = choices.options[..., 1:].flatten(1)
    return Rows(
        tokens,
        torch.cat((start, lengths + inside), 1),
        torch.cat((prefix, own.expand(questions, -1)), 1),
        torch.cat((lengths - 1, torch.arange(width, total).expand(questions, -1)), 1),
        labels,
        torch.full((questions,), total),
        torch.full((questions,), labels.shape[1]),
    )


def valid_tokens(choices: ChoiceSet) -> Tensor:
    """Which tokens of the rows of questions are no padding: (q, t) bool."""
    prefix = torch.arange(choices.prefixes.shape[1]) < choices.prefix_lengths[:, None]
    each = torch.arange(1, choices.options.shape[2])
    return torch.cat((prefix, (each < choices.option_lengths[..., None]).flatten(1)), 1)


def closed_up(rows: Rows, valid: Tensor) -> Rows:
    """The rows of questions without gaps: what is padding stands at the end. valid: (e, t) bool."""
    width = valid.shape[1] - rows.places.shape[1] + 1  # of the prefixes
    lengths, start = valid.sum(1), valid.cumsum(1) - 1
    order = valid.to(torch.int8).sort(dim=1, descending=True, stable=True).indices
    told = [part.gather(1, order) for part in (rows.tokens, rows.positions, rows.segments)]
    late = valid[:, width:]
    used = F.pad(late, (1, 0), value=True)
    kept = used.to(torch.int8).sort(dim=1, descending=True, stable=True).indices
    places = torch.where(used, start.gather(1, rows.places), 0).gather(1, kept)
    labels = rows.labels.gather(1, kept[..., None].expand_as(rows.labels))
    parts = [*told, places, labels, lengths, used.sum(1)]
    return Rows(*parts)


def _ask(
    base: FrozenBase,
    spec: AdapterSpec,
    fitted: Fitted | None,
    rows: Rows,
    slots: int,
    by_length: bool,
) -> Tensor:
    """Losses of every label for every adapter: (g, e, q, w) on the CPU; 0 where sorted rows end earlier."""
    kernels = kernels_for(base, rows.tokens.shape[1])
    fitted = fitted or untrained(spec, layout_of(base, [spec]))
    factors = with_gains(fitted.layout, fitted.scaled.to(base.device), base.weight_of)
    factors = factors.to(base.dtype)
    chunks = math.ceil(len(rows) / ROWS)
    order = by_need(rows) if by_length else torch.arange(len(rows))
    rows = rows.take(order)
    # a slot is one adapter and one chunk of questions, so that any number of adapters fills them
    total = len(fitted) * chunks
    slots = min(slots, total)
    parts = []
    for start in range(0, total, slots):
        index = torch.arange(start, start + slots)
        # past the end: nothing
        first = torch.where(index < total, index % chunks * ROWS, len(rows))
        adapters = (index // chunks).clamp(max=len(fitted) - 1)
        pairs = pairs_by_block(
            fitted.layout.unpack(factors[adapters.to(base.device)]), len(base.blocks)
        )
        some = rows.take((first[:, None] + torch.arange(ROWS)).flatten())
        some = some.cut() if by_length else some
        tokens, asked = (each.to(base.device) for each in some.ragged())
        some = some.to(base.device)
        seen = views(base, tokens, some.positions, visible(some.segments), asked, some.places)
        found = answer_losses(base, kernels, some.tokens, some.labels, seen, pairs)
        short = rows.places.shape[1] - found.shape[1]
        parts.append(F.pad(found, (0, 0, 0, short)) if short else found)
    losses = torch.cat(parts)[: total * ROWS].cpu()
    losses = losses.view(len(fitted), chunks * ROWS, *losses.shape[1:])[:, : len(rows)]
    return losses[:, order.argsort()] if by_length else losses


def by_need(rows: Rows) -> Tensor:
    """The order in which rows of about one length, and among these of about as many places, are neighbours."""
    order = rows.lengths.argsort(stable=True)
    parts = [part[rows.asked[part].argsort(stable=True)] for part in torch.split(order, WINDOW)]
    return torch.cat(parts)


def tokens_asked(rows: Rows) -> tuple[int, int]:
    """Tokens of sorted rows without padding, and with it, as one adapter is asked after another."""
    whole, rows = 0, rows.take(by_need(rows))
    for first in range(0, len(rows), ROWS):
        whole += rows.take(torch.arange(first, first + ROWS)).cut().tokens.numel()
    return int(rows.lengths.sum()), whole
