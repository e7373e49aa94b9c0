"""Outliers: LoRAs that are not of the kind that a model was trained on, and in what they differ.

    strange    z^T C^-1 z             z: the facts of all layers, standardised, C their covariance
    apart      y^T (D^-1 - B^-1) y    y: the directions of all layers, D their covariance, B its layer blocks
    blended    w . [z, mean z, ...]   the line between the training LoRAs and means of several of them

`strange` finds another base, random updates, other methods and sizes; `apart` layers that do not go together,
each of which would pass alone (how much more likely were they drawn one by one?); `blended` averages, which lie
in the middle of everything and are far from nothing. Each is brought to the scale of LoRAs that took no part,
the largest is the score, and 1 is the limit that five in a hundred of those exceed.

The covariances are shrunk (Ledoit and Wolf 2004). The cost of a LoRA does not grow with the training set.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.predict.pretence import blend, cut, thin
from lorascope.predict.profile import FACTS, Profile, Seen

__all__ = ["DETECTORS", "Outliers", "Verdict"]

DETECTORS = ("strange", "apart", "blended")
FLAGGED = 0.05  # share of LoRAs of the right kind that is beyond the limit
NAMED = 3  # layers in a sentence
FARTHEST = 30.0  # deviations that a fact is taken at
CHUNK = 256
PRETENDED = 512  # training LoRAs that others are made of
#: `FACTS` in a word or two.
SHORT = (
    "size",
    "directions in use",
    "second value",
    "output directions",
    "input directions",
    "directions of both",
)
ANY_RANK = [0, 3, 4, 5]  # facts that hardly change with the rank: size and shares


@dataclass(frozen=True)
class Verdict:
    """Of one LoRA: how unusual it is (1 is the limit), by each detector, and in what, as a sentence.

    `rule` names in short what put it beyond the limit: the detector, and the fact that it saw; else it is "".
    """

    score: float
    by: dict[str, float]
    reason: str
    rule: str = ""

    @property
    def abstain(self) -> bool:
        """Whether it is beyond the limit."""
        return not self.score <= 1.0


class Outliers(nn.Module):
    """The detectors of one set of training LoRAs.

    Under g: unchanged, as the numbers of `Profile` are.
    """

    def __init__(self, signature: Signature) -> None:
        super().__init__()
        self.signature = signature
        self.profile = Profile(signature)
        layers, facts, width = len(signature), len(FACTS), self.profile.width
        self.register_buffer("mean", torch.zeros(layers, facts))
        self.register_buffer("std", torch.ones(layers, facts))
        self.register_buffer("precision", torch.eye(layers * len(ANY_RANK)))
        self.register_buffer("directions_mean", torch.zeros(layers, width))
        self.register_buffer("directions_std", torch.ones(layers, width))
        self.register_buffer("apart", torch.zeros(layers * width, layers * width))
        self.register_buffer("blended", torch.zeros(layers * facts + 2 * facts))
        self.register_buffer("middle", torch.zeros(len(DETECTORS)))
        self.register_buffer("spread", torch.ones(len(DETECTORS)))
        self.register_buffer("limit", torch.ones(()))

    @torch.no_grad()
    def fit(self, batch: LoRABatch, held: LoRABatch, seed: int = 0) -> None:
        """Learns what training LoRAs are like, and the limit from LoRAs that were held out."""
        self.profile.fit(batch)
        seen = self._see(batch)
        some = batch.select(slice(0, PRETENDED)).to(torch.float32)
        generator = torch.Generator().manual_seed(seed)
        other_ranks = self._other_ranks(some, generator)
        self._fit_strange(seen.facts, [x.facts for x in other_ranks])
        self._fit_apart(seen.directions)
        self._fit_blended(
            some, [seen.facts[:PRETENDED], *(x.facts for x in other_ranks)], generator
        )
        held = held.to(torch.float32)
        as_held = [self._see(held), *self._other_ranks(held, generator)]
        raw = self._raw(Seen(*(torch.cat(column) for column in zip(*as_held, strict=True))))
        self.get_buffer("middle").copy_(raw.median(0).values)
        upper = torch.stack([_upper(column) for column in raw.T])
        self.get_buffer("spread").copy_((upper - raw.median(0).values).clamp(min=1e-6))
        self.get_buffer("limit").copy_(_upper(self._scaled(raw).amax(1)))

    @torch.no_grad()
    def scores(self, batch: LoRABatch) -> Tensor:  # (b,)
        """How unusual each LoRA is; 1 is the limit."""
        return self._parts(self._see(batch)).amax(1)

    @torch.no_grad()
    def verdicts(self, batch: LoRABatch) -> list[Verdict]:
        """The score of each LoRA with its reason."""
        seen = self._see(batch)
        parts = self._parts(seen)
        return [
            Verdict(
                max(row),
                dict(zip(DETECTORS, row, strict=True)),
                *self._reason(row, Seen(seen.facts[number], seen.directions[number])),
            )
            for number, row in enumerate(parts.tolist())
        ]

    # --- numbers ------------------------------------------------------------------------------

    def _see(self, batch: LoRABatch) -> Seen:
        parts = [
            self.profile(batch.select(slice(i, i + CHUNK)))
            for i in range(0, max(batch.size, 1), CHUNK)
        ]
        return Seen(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _z(self, facts: Tensor) -> Tensor:  # (b, L, 6): standardised, 0 where missing
        z = (facts - self.get_buffer("mean")) / self.get_buffer("std")
        return z.clamp(-FARTHEST, FARTHEST).nan_to_num(0.0)

    def _y(self, directions: Tensor) -> Tensor:  # (b, L d)
        y = (directions - self.get_buffer("directions_mean")) / self.get_buffer("directions_std")
        return y.nan_to_num(0.0).flatten(1)

    def _raw(self, seen: Seen) -> Tensor:  # (b, 3)
        z, y = self._z(seen.facts), self._y(seen.directions)
        flat = z[..., ANY_RANK].flatten(1)
        strange = ((flat @ self.get_buffer("precision")) * flat).sum(1)
        apart = ((y @ self.get_buffer("apart")) * y).sum(1)
        blended = _means(z) @ self.get_buffer("blended")
        # a distance grows with the square of what is unusual
        return torch.stack([strange.clamp(min=0).sqrt(), apart, blended], 1)

    def _scaled(self, raw: Tensor) -> Tensor:
        return (raw - self.get_buffer("middle")) / self.get_buffer("spread")

    def _parts(self, seen: Seen) -> Tensor:  # (b, 3)
        return self._scaled(self._raw(seen)) / self.get_buffer("limit")

    # --- fitting ------------------------------------------------------------------------------

    def _fit_strange(self, facts: Tensor, other_ranks: Sequence[Tensor]) -> None:
        mean, std = _moments(facts)
        self.get_buffer("mean").copy_(mean)
        self.get_buffer("std").copy_(std)
        z = torch.cat([self._z(facts), *(self._z(x) for x in other_ranks)])
        covariance = _shrunk(z[..., ANY_RANK].flatten(1))
        self.get_buffer("precision").copy_(torch.linalg.inv(covariance))

    def _fit_apart(self, directions: Tensor) -> None:
        mean, std = _moments(directions)
        self.get_buffer("directions_mean").copy_(mean)
        self.get_buffer("directions_std").copy_(std)
        together = _shrunk(self._y(directions))
        width = directions.shape[2]
        alone = together.new_zeros(together.shape)
        for start in range(0, len(together), width):
            block = slice(start, start + width)
            alone[block, block] = together[block, block]
        difference = torch.linalg.inv(together) - torch.linalg.inv(alone)
        self.get_buffer("apart").copy_(difference)

    def _fit_blended(
        self, batch: LoRABatch, real: Sequence[Tensor], generator: torch.Generator
    ) -> None:
        pairs = [blend(batch, count, generator) for count in (2, 2, 3)]
        false = [*pairs, cut(blend(batch, 2, generator), batch.rank)]
        numbers = [
            [_means(self._z(facts)) for facts in parts]
            for parts in (real, [self._see(part).facts for part in false])
        ]
        means = [torch.cat(parts).mean(0) for parts in numbers]
        centred = torch.cat([torch.cat(x) - m for x, m in zip(numbers, means, strict=True)])
        weights = torch.linalg.solve(_shrunk(centred), (means[1] - means[0]).double())
        self.get_buffer("blended").copy_(weights)

    def _other_ranks(self, batch: LoRABatch, generator: torch.Generator) -> list[Seen]:
        """The LoRAs as at other ranks: thinned and cut, and twice and four times by the steps of thinning."""
        rank, seen = batch.rank, self._see(batch)
        ranks = sorted({max(1, rank // 4), max(1, rank // 2), max(1, 3 * rank // 4)} - {rank})
        thinned = {r: self._see(thin(batch, r, generator)) for r in ranks}
        if rank < 2:
            return []
        half = thinned[max(1, rank // 2)].facts
        step = (seen.facts - half).nan_to_num(0.0)
        higher = [Seen(seen.facts + times * step, seen.directions) for times in (1, 2)]
        return [*thinned.values(), *(self._see(cut(batch, r)) for r in ranks), *higher]

    # --- words --------------------------------------------------------------------------------

    def _reason(self, by: Sequence[float], seen: Seen) -> tuple[str, str]:
        """What the detector that is farthest beyond the limit saw, and its rule; "" where none is."""
        if not max(by) > 1:
            return "", ""
        detector = DETECTORS[max(range(len(by)), key=by.__getitem__)]
        z = self._z(seen.facts.unsqueeze(0))[0]
        if detector == "apart":
            y = self._y(seen.directions.unsqueeze(0))[0]
            layers = (y * (self.get_buffer("apart") @ y)).view(len(z), -1).sum(1)
            said = f"its layers do not go together: {self._names(layers)} least with the others"
            return said, detector
        if detector == "strange":
            fact = max(ANY_RANK, key=lambda index: float(z[:, index].square().sum()))
            layers = z[:, fact].abs()
            said = self._compared(fact, seen.facts, layers)
            return f"unusual {said}; most in {self._names(layers)}", f"{detector}: {SHORT[fact]}"
        weights = self.get_buffer("blended")[: z.numel()].view_as(z)
        fact = int((weights * z).sum(0).argmax())
        layers = weights[:, fact] * z[:, fact]
        said = self._compared(fact, seen.facts, layers)
        # full finetuning and LoHa fill the same directions as means do
        what = "it looks like a mean of several LoRAs, or like another method than LoRA"
        return f"{what}: {said}", f"{detector}: {SHORT[fact]}"

    def _names(self, layers: Tensor) -> str:  # (L,)
        """The layers of the largest numbers."""
        order = layers.argsort(descending=True)[:NAMED].tolist()
        return ", ".join(self.signature.names[index] for index in order)

    def _compared(self, fact: int, facts: Tensor, layers: Tensor) -> str:
        """A fact at the most telling layer, against that of the training LoRAs."""
        layer = int(layers.argmax())
        words = [_in_units(fact, float(x[layer, fact])) for x in (facts, self.get_buffer("mean"))]
        name = self.signature.names[layer]
        return f"{FACTS[fact]} ({words[0]} in {name}, {words[1]} in training)"


def _in_units(fact: int, value: float) -> str:
    """A fact as a reader knows it: shares in percent, all else without the logarithm."""
    if FACTS[fact].startswith("share"):
        return f"{100 / (1 + math.exp(-value)):.0f} %"
    return f"{math.exp(value):.3g}"


def _means(z: Tensor) -> Tensor:  # (b, L, f) -> (b, L f + 2 f)
    """All numbers, their means over layers, and the products of those with the mean of the first."""
    mean = z.mean(1)
    return torch.cat([z.flatten(1), mean, mean[:, :1] * mean], 1)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:  # (b, L, f) -> (L, f) twice
    """Mean and deviation over the LoRAs that have the layer; deviation 1 for what never varies."""
    there = ~x.isnan()
    count = there.sum(0).clamp(min=1)
    mean = x.nan_to_num(0.0).sum(0) / count
    std = (torch.where(there, (x - mean).square(), 0.0).sum(0) / count).sqrt()
    return mean, torch.where(std > 1e-6, std, 1.0)


def _shrunk(x: Tensor) -> Tensor:  # (b, f) -> (f, f) float64
    """The covariance, shrunk to a multiple of the identity by as much as Ledoit and Wolf say."""
    from sklearn.covariance import ledoit_wolf

    covariance = ledoit_wolf(x.double().cpu().numpy(), assume_centered=True)[0]
    found = torch.from_numpy(np.ascontiguousarray(covariance)).to(x.device)
    size = found.diagonal().mean().clamp(min=1e-12)
    return found + 1e-6 * size * torch.eye(len(found), dtype=found.dtype, device=x.device)


def _upper(x: Tensor) -> Tensor:
    """What 5 in 100 exceed, with the correction for few numbers (the largest for fewer than 19)."""
    place = min(len(x) - 1, int(np.ceil((len(x) + 1) * (1 - FLAGGED))) - 1)
    return x.sort().values[place]
