"""`Signature`: which layers, of which sizes, of which base a model reads.

A predictor is bound to the signature it was trained on. Layers of the same (n, m) form a shape group: the
unit that batches stack and that models work on with one matrix product.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from lorascope.errors import SignatureError

__all__ = ["Coverage", "LayerShape", "ShapeGroup", "Signature"]


@dataclass(frozen=True)
class LayerShape:
    """Name, output width n and input width m of one layer."""

    name: str
    n: int
    m: int


@dataclass(frozen=True)
class ShapeGroup:
    """The layers of one shape: their n and m, and their places in `Signature.layers`."""

    n: int
    m: int
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)


class Coverage(NamedTuple):
    """How many of a signature's layers a LoRA has."""

    present: int
    total: int

    @property
    def fraction(self) -> float:
        """present / total, 1 for an empty signature."""
        return self.present / self.total if self.total else 1.0


@dataclass(frozen=True)
class Signature:
    """The ordered layers of a model's input and the identity of the base (None if unknown).

    Example:
        >>> signature = Signature((LayerShape("q", 8, 8), LayerShape("v", 4, 8), LayerShape("k", 8, 8)))
        >>> [group.indices for group in signature.groups()]
        [(0, 2), (1,)]
    """

    layers: tuple[LayerShape, ...]
    base: str | None = None

    def __post_init__(self) -> None:
        if len(self._by_name) != len(self.layers):
            twice = next(name for name, count in Counter(self.names).items() if count > 1)
            raise SignatureError(
                f"Making a signature: the layer {twice!r} stands twice, expected each name once."
            )

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def names(self) -> tuple[str, ...]:
        """Layer names in order."""
        return tuple(shape.name for shape in self.layers)

    def groups(self) -> tuple[ShapeGroup, ...]:
        """The shape groups, in order of first appearance."""
        return self._groups

    def check(self, other: "Signature", *, allow_missing: bool = False) -> Coverage:
        """Check that a LoRA of signature `other` can be read under this one.

        Extra layers and changed sizes never pass; missing layers pass only when the model declares
        partial input. The bases are not compared: that is the predictor's warning to give.

        Raises:
            SignatureError: naming the first layer that differs and what to do.
        """
        for shape in other.layers:
            mine = self._by_name.get(shape.name)
            if mine is None:
                raise SignatureError(self._extra_message(shape))
            if (mine.n, mine.m) != (shape.n, shape.m):
                raise SignatureError(
                    f"Reading a LoRA under a signature: layer {shape.name!r} is {shape.n} x {shape.m}, "
                    f"expected {mine.n} x {mine.m}. The LoRA belongs to a base of other sizes. "
                    "Try: a predictor trained on LoRAs of that base."
                )
        present = len(other)
        if present < len(self) and not allow_missing:
            have = set(other.names)
            first = next(name for name in self.names if name not in have)
            raise SignatureError(
                f"Reading a LoRA under a signature: layer {first!r} is missing "
                f"({present} of {len(self)} layers are there), and this model needs all of them. "
                "Try: a model that accepts partial input, such as gl_net."
            )
        return Coverage(present, len(self))

    @classmethod
    def union(cls, signatures: Iterable["Signature"]) -> "Signature":
        """All layers that any of some signatures has, of the first one's base.

        They stand in the order of the one with the most layers, and what it lacks after them.

        Raises:
            SignatureError: there is no signature, or one layer has two sizes.
        """
        given = list(signatures)
        if not given:
            raise SignatureError("Joining signatures: found none, expected at least one.")
        layers: dict[str, LayerShape] = {}
        for signature in sorted(given, key=len, reverse=True):
            for shape in signature.layers:
                known = layers.setdefault(shape.name, shape)
                if known != shape:
                    raise SignatureError(
                        f"Joining {len(given)} signatures: layer {shape.name!r} is {shape.n} x {shape.m} in "
                        f"one and {known.n} x {known.m} in another, expected one size. They belong to bases "
                        "of unlike sizes. Try: one signature for each base."
                    )
        return cls(tuple(layers.values()), given[0].base)

    def to_json(self) -> dict[str, Any]:
        """Plain data, the inverse of `from_json`."""
        return {"base": self.base, "layers": [[s.name, s.n, s.m] for s in self.layers]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Signature":
        """Build a signature from `to_json`'s data. Raises SignatureError if the data is of another form."""
        try:
            layers = tuple(LayerShape(str(name), int(n), int(m)) for name, n, m in data["layers"])
            base = data.get("base")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SignatureError(
                f"Reading a stored signature: found {str(data)[:80]!r}, expected "
                '{"base": ..., "layers": [[name, n, m], ...]}.'
            ) from error
        return cls(layers, None if base is None else str(base))

    def digest(self) -> str:
        """sha256 (hex) of the layers and the base."""
        return hashlib.sha256(json.dumps(self.to_json()).encode()).hexdigest()

    @cached_property
    def _by_name(self) -> dict[str, LayerShape]:
        return {shape.name: shape for shape in self.layers}

    @cached_property
    def _groups(self) -> tuple[ShapeGroup, ...]:
        members: dict[tuple[int, int], list[int]] = {}
        for index, shape in enumerate(self.layers):
            members.setdefault((shape.n, shape.m), []).append(index)
        return tuple(ShapeGroup(n, m, tuple(places)) for (n, m), places in members.items())

    def _extra_message(self, shape: LayerShape) -> str:
        missing = [
            name for name in self.names if name.rsplit(".", 1)[-1] == shape.name.rsplit(".", 1)[-1]
        ]
        like = f" The closest names here are like {missing[0]!r}." if missing else ""
        return (
            f"Reading a LoRA under a signature: layer {shape.name!r} ({shape.n} x {shape.m}) is not among "
            f"the {len(self)} layers that the model was trained on.{like} Nothing is dropped in silence. "
            "Try: a predictor trained on such LoRAs, or LoRA.select() to drop the layer on purpose."
        )
