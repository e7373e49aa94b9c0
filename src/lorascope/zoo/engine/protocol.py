"""`Engine`: who loads a base and finetunes adapters on it; a family names its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.fitted import Fitted
from lorascope.zoo.engine.grouping import JobShape

__all__ = ["Engine"]

CPU = torch.device("cpu")


class Engine(Protocol):
    """Loads a base and finetunes adapters on it, many at once."""

    slots: ClassVar[int]  # how many train at once where nothing else is asked
    per_lane: ClassVar[int]  # how many of a group a lane trains, one after another
    exact_steps: ClassVar[int]  # of an adapter, that a base of half precision computes in float32

    def compiles(self) -> bool:
        """Whether kernels can be compiled here; says so once where they cannot."""

    def load(
        self,
        folder: Path,
        dtype: torch.dtype,
        compiled: bool,
        device: torch.device = CPU,
        exact_steps: int = 0,
    ) -> Any:
        """The frozen base of a folder on the device that trains.

        exact_steps: how many of each adapter's steps are computed in float32, whatever the dtype.
        """

    def shape(self, job: Any) -> JobShape:
        """What decides with which others a job trains."""

    def fit(
        self, base: Any, specs: AdapterSpec | Sequence[AdapterSpec], jobs: Sequence[Any], slots: int
    ) -> Fitted:
        """One adapter for each job, in their order."""
