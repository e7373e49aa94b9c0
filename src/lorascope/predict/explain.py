"""Which layers, and which rank directions in them, carry a prediction.

    integrated   f(x) - f(0) = sum over layers of a_l,  a_l = sum over directions of a_lk + sizes + magnitudes
    left out     a_l = f(x) - f(x without layer l)

`fusion` is explained by integrated gradients over its numbers (Sundararajan, Taly and Yan 2017), from a LoRA of
average size, average magnitudes and no direction. What is linear in the numbers gets its own terms exactly,
whatever the path, where no curve bends the sum (`models/curve.py`); all parts sum to the prediction minus the
baseline up to the error of the quadrature, which is told. The numbers of a layer are sums over its singular
triples, so they are shared out among these exactly; sizes and DoRA's magnitudes belong to the layer as a whole.

Every other model is explained by leaving layers out; such parts need not sum to anything, but do where the
model is linear in the update (`kernel_raw`). Values are in the units of the label, those of classes are logits
before calibration.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lorascope.core.batch import GroupBatch, LoRABatch
from lorascope.errors import DataError
from lorascope.models.fusion import Fusion
from lorascope.models.model import Model
from lorascope.predict.predictor import Predictor
from lorascope.symmetry.canonical import canonical_stacked

__all__ = ["Explanation", "Part", "explain"]

STEPS = 64  # of the quadrature
DIRECTIONS_OF = 8  # layers whose directions are left out one by one


@dataclass(frozen=True)
class Part:
    """What one layer says, and each of its singular directions, the strongest first (None: not asked).

    `sizes` is what its norm and spectrum say, and that it is there; `magnitudes` what DoRA's say: of the layer
    as a whole, and of no direction. With `method` "integrated" directions, sizes and magnitudes sum to `value`;
    None: the method or the model has no such part.
    """

    layer: str
    value: float
    directions: tuple[float, ...] | None = None
    sizes: float | None = None
    magnitudes: float | None = None

    def scaled(self, scale: float) -> "Part":
        """The same part in other units."""
        directions = None if self.directions is None else tuple(x * scale for x in self.directions)
        sizes, magnitudes = (
            None if x is None else x * scale for x in (self.sizes, self.magnitudes)
        )
        return Part(self.layer, self.value * scale, directions, sizes, magnitudes)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        directions = None if self.directions is None else list(self.directions)
        whole = {"sizes": self.sizes, "magnitudes": self.magnitudes}
        return {"layer": self.layer, "value": self.value, "directions": directions, **whole}


@dataclass(frozen=True)
class Explanation:
    """The parts of one output of one prediction, layers in signature order.

    `output` is the class, "" for a value. With `method` "integrated" they sum to `prediction - baseline` up to
    `rest`; with "left_out" `rest` is what they do not account for, and `baseline` the answer without any layer.
    """

    target: str
    output: str
    prediction: float
    baseline: float
    parts: tuple[Part, ...]
    method: Literal["integrated", "left_out"]

    @property
    def rest(self) -> float:
        """prediction - baseline - the sum of all parts."""
        return self.prediction - self.baseline - sum(part.value for part in self.parts)

    def largest(self, count: int) -> list[Part]:
        """The parts of the largest values, whatever their sign."""
        return sorted(self.parts, key=lambda part: -abs(part.value))[:count]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "target": self.target,
            "output": self.output,
            "prediction": self.prediction,
            "baseline": self.baseline,
            "rest": self.rest,
            "method": self.method,
            "parts": [part.to_json() for part in self.parts],
        }


def explain(predictor: Predictor, batch: LoRABatch, output: str | None = None) -> Explanation:
    """Explain what a predictor says of one LoRA, as a batch of one under its signature.

    `output` names the class that is explained; by default the one with the largest logit.
    Raises DataError for another number of LoRAs or an unknown class.

    >>> explain(predictor, collate([lora], predictor.signature)).largest(3)  # doctest: +SKIP
    """
    if batch.size != 1:
        raise DataError(f"Explaining a prediction: found {batch.size} LoRAs, expected one.")
    batch = batch.to(predictor.model.dtype, predictor.model.device)
    model = predictor.model.eval()
    with torch.no_grad():
        column = _column(predictor, model(batch)[0], output)
    scale, shift = predictor.scaler.std, predictor.scaler.mean
    if isinstance(model, Fusion):
        said, baseline, parts = _integrated(model, batch, column)
        method: Literal["integrated", "left_out"] = "integrated"
    else:
        said, baseline, parts = _left_out(model, batch, column)
        method = "left_out"
    classes = predictor.target.classes
    return Explanation(
        predictor.target.name,
        classes[column] if classes else "",
        said * scale + shift,
        baseline * scale + shift,
        tuple(part.scaled(scale) for part in parts),
        method,
    )


Found = tuple[float, float, list[Part]]  # what is said, what is said of nothing, the parts


def _column(predictor: Predictor, outputs: Tensor, output: str | None) -> int:
    classes = predictor.target.classes
    if output is None:
        return int(outputs.argmax())
    if output not in classes:
        raise DataError(
            f"Explaining {predictor.target.name!r}: found no class {output!r}, expected one of "
            f"{', '.join(classes) or 'none, it is a value'}."
        )
    return classes.index(output)


# --- leaving out ------------------------------------------------------------------------------


def _left_out(model: Model, batch: LoRABatch, column: int) -> Found:
    """Each layer missing (or zero) in turn, and each direction of the most telling layers."""
    layers = len(batch.signature)
    order = batch.layer_order.argsort().tolist()  # signature place of each stacked layer
    forms = [canonical_stacked(group.u, group.v) for group in batch.groups]
    starts = [0]
    for group in batch.groups:
        starts.append(starts[-1] + group.u.shape[0])

    def without(kept: Tensor) -> list[float]:  # (c, L, r) 0 or 1, stacked order
        groups = [
            GroupBatch(
                form.x * (form.s * kept[:, start:stop].transpose(0, 1)).unsqueeze(-1),
                form.y.expand(-1, len(kept), -1, -1),
            )
            for form, start, stop in zip(forms, starts[:-1], starts[1:], strict=True)
        ]
        ranks = batch.ranks.expand(len(kept), -1)
        if model.accepts_missing:
            ranks = ranks * kept[:, batch.layer_order].any(2)
        copies = LoRABatch(batch.signature, tuple(groups), ranks)
        with torch.no_grad():
            return [float(x) for x in model(copies)[:, column]]

    rank = batch.rank
    kept = torch.ones(layers + 2, layers, rank, dtype=batch.dtype)
    kept[1] = 0
    kept[torch.arange(layers) + 2, torch.arange(layers)] = 0
    said, nothing, *rest = without(kept)
    values = [said - value for value in rest]
    telling = sorted(range(layers), key=lambda place: -abs(values[place]))[:DIRECTIONS_OF]
    kept = torch.ones(len(telling) * rank, layers, rank, dtype=batch.dtype)
    for number, place in enumerate(telling):
        for k in range(rank):
            kept[number * rank + k, place, k] = 0
    single = without(kept)
    parts = [Part(name, 0.0) for name in batch.signature.names]
    for place, value in enumerate(values):
        own = None
        if place in telling:
            start = telling.index(place) * rank
            own = tuple(said - x for x in single[start : start + rank])
        parts[order[place]] = Part(parts[order[place]].layer, value, own)
    return said, nothing, parts


# --- integrated gradients of fusion -----------------------------------------------------------


def _integrated(model: Fusion, batch: LoRABatch, column: int) -> Found:
    """Of the numbers core, left, right, sizes and magnitudes, shared out among layers and directions."""
    features = model.features(batch)
    assert isinstance(features, tuple)
    names = model.linear_names
    numbers = [part.detach() for part in features[: len(names)] if isinstance(part, Tensor)]

    def answer(parts: list[Tensor]) -> Tensor:
        return model.score(model.compared(dict(zip(names, parts, strict=True))))[:, column]

    nodes, weights = _quadrature(numbers[0])
    inputs = [(nodes * part).requires_grad_() for part in numbers]
    slopes = torch.autograd.grad((answer(inputs) * weights).sum(), inputs)
    summed = [slope.sum(0) for slope in slopes]
    with torch.no_grad():
        said, nothing = (float(answer([x * part for part in numbers])) for x in (1.0, 0.0))
        parts = _shared_out(model, batch, summed, [part[0] for part in numbers[3:]])
    return said, nothing, parts


def _quadrature(like: Tensor) -> tuple[Tensor, Tensor]:  # (s, 1), (s,)
    """Gauss-Legendre nodes and weights on [0, 1]."""
    nodes, weights = (torch.from_numpy(x).to(like) for x in np.polynomial.legendre.leggauss(STEPS))
    return (nodes.unsqueeze(1) + 1) / 2, weights / 2


def _shared_out(
    model: Fusion, batch: LoRABatch, slopes: list[Tensor], rest: list[Tensor]
) -> list[Part]:
    """Slope times number, for each singular triple of each layer; sizes and magnitudes belong to the layer."""
    layers, rank = len(batch.signature), batch.rank
    forms = [canonical_stacked(group.u, group.v) for group in batch.groups]
    s = torch.cat([form.s[:, 0] for form in forms])  # (L, r), stacked order
    tiny = torch.finfo(s.dtype).tiny
    shares = s / s.norm(dim=1, keepdim=True).clamp(min=tiny)
    squares = s.square() / s.square().norm(dim=1, keepdim=True).clamp(min=tiny)
    directions = torch.zeros(layers, rank, dtype=torch.float64)
    counts = [len(group) for group in batch.signature.groups()]
    widths = _widths(model, len(counts))
    for k in range(rank):
        groups = [GroupBatch(form.x[:, :, k : k + 1], form.y[:, :, k : k + 1]) for form in forms]
        single = LoRABatch(batch.signature, tuple(groups), batch.ranks.clamp(max=1))
        # cores divide by the root of how many layers are there, which is that of the whole LoRA
        there = (s > 0).sum(0).clamp(min=1).to(s.dtype)
        scale = (there[k] / there[0]).sqrt()
        views = model.cores(single)
        for slope, view, share, view_widths in zip(
            slopes[:3], views, (shares, squares, squares), widths, strict=True
        ):
            terms = _by_layer(slope * view[0] * scale, counts, view_widths)
            directions[:, k] += (terms * share[:, k]).double()
    directions = directions[batch.layer_order]
    sizes = _sizes(model, slopes[3] * rest[0], layers)
    values, magnitudes = directions.sum(1) + sizes, [None] * layers
    if model.reads_magnitudes:
        found = model.magnitudes_of.by_layer(slopes[4] * rest[1]).double()
        values, magnitudes = values + found, found.tolist()
    columns = (values.tolist(), map(tuple, directions.tolist()), sizes.tolist(), magnitudes)
    return [Part(*row) for row in zip(batch.signature.names, *columns, strict=True)]


def _widths(model: Fusion, groups: int) -> list[list[int]]:
    """How many numbers of core, left and right a layer of each shape group has."""
    sides = [
        [model.cores.get_buffer(f"{side}_{index}").shape[2] for side in ("p", "q")]
        for index in range(groups)
    ]
    return [
        [c * d for c, d in sides],
        [c * (c + 1) // 2 for c, _ in sides],
        [d * (d + 1) // 2 for _, d in sides],
    ]


def _by_layer(terms: Tensor, counts: list[int], widths: list[int]) -> Tensor:  # -> (L,)
    """Sums of terms that come shape group by shape group, layer by layer."""
    pieces = torch.split(
        terms, [count * width for count, width in zip(counts, widths, strict=True)]
    )
    rows = [piece.view(count, -1).sum(1) for piece, count in zip(pieces, counts, strict=True)]
    return torch.cat(rows)


def _sizes(model: Fusion, terms: Tensor, layers: int) -> Tensor:  # (L,) float64
    """Log spectra and norms of each layer, whether it is there, and its share of the total norm's term."""
    width = model.sizes_of.spectra.values + 1
    own = terms[: layers * width].view(layers, width).sum(1)
    total, there = terms[layers * width], terms[layers * width + 1 :]
    return (own + there + total / layers).double()
