"""`Family`: what a zoo's LoRAs have in common and how one of them is drawn, asked and labelled.

A family is a plain value that travels to worker processes; everything it draws is a pure function
of its seed and the index. What it may leave out: its `engine` (then that of languages), `spec_of` an
index (then `spec`), the `shape` of an index, where it follows from less than the whole job, what was
`skipped` of the data of an index, a sentence each, how to `place` its parts on a device, and, as a mapping of
its class, the `meanings` of its targets, a line each.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import torch

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.fitted import Fitted
from lorascope.zoo.engine.grouping import JobShape
from lorascope.zoo.engine.language.engine import LanguageEngine
from lorascope.zoo.engine.protocol import Engine

__all__ = [
    "Family",
    "engine_of",
    "label_rows_of",
    "place_family",
    "shape_of",
    "skipped_of",
    "spec_of",
]


class Family(Protocol):
    """How one LoRA's data, hyper-parameters and labels follow from its index."""

    @property
    def name(self) -> str:
        """The family's name in recipes."""

    @property
    def seed(self) -> int:
        """What all draws start from."""

    @property
    def spec(self) -> AdapterSpec:
        """The shape of every adapter."""

    @property
    def base_folder(self) -> Path:
        """The folder of the base model, as transformers saves it."""

    @property
    def options(self) -> Mapping[str, Any]:
        """What else makes the zoo (ranges, sizes): plain data for the recipe."""

    @property
    def targets(self) -> Mapping[str, Mapping[str, Any]]:
        """The labels that can be predicted: name -> kind, classes, metric, the base's own value."""

    def job(self, index: int) -> Any:
        """The finetuning of LoRA `index`."""

    def group(self, index: int) -> str:
        """What LoRA `index` shares with others; those of one group are never split."""

    def hyper(self, index: int) -> Mapping[str, float]:
        """The hyper-parameters of LoRA `index`, by name."""

    def evaluate(
        self, base: Any, fitted: Fitted, indices: Sequence[int]
    ) -> Sequence[Mapping[str, Any]]:
        """The labels of each fitted adapter: one mapping, name -> value, for each index."""

    def report(self, table: pa.Table) -> Mapping[str, Any]:
        """Distributions, ceilings and the share of hyper-parameters, from the finished index."""


def spec_of(family: Family, index: int) -> AdapterSpec:
    """The shape of one adapter: the family's own rule `spec_of` where it has one, else its spec."""
    own: Callable[[int], AdapterSpec] | None = getattr(family, "spec_of", None)
    return family.spec if own is None else own(index)


def engine_of(family: Family) -> Engine:
    """The engine that a family names, or that of language models."""
    engine: Engine = getattr(family, "engine", None) or LanguageEngine()
    return engine


def place_family(family: Family, device: torch.device) -> None:
    """Move what a family computes with beside its base to a device, by a family that has such parts.

    It is called before the first job, so that the data of all are made on one device.
    """
    own: Callable[[torch.device], None] | None = getattr(family, "place", None)
    if own is not None:
        own(device)


def shape_of(family: Family, index: int) -> JobShape:
    """What decides with which others a LoRA trains."""
    own: Callable[[int], JobShape] | None = getattr(family, "shape", None)
    return engine_of(family).shape(family.job(index)) if own is None else own(index)


def label_rows_of(family: Family) -> int:
    """What the labels of a LoRA cost, in rows of finetuning, by a family where that is much."""
    return int(getattr(family, "label_rows", 0))


def skipped_of(family: Family, index: int) -> Sequence[str]:
    """What was left out of the data of a LoRA because it is bad, by a family that does so."""
    own: Callable[[int], Sequence[str]] | None = getattr(family, "skipped", None)
    return () if own is None else own(index)
