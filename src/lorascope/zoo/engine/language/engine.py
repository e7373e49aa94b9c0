"""The engine of language families: a causal language model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch

from lorascope.errors import MissingExtraError
from lorascope.zoo.bases.quiet import quiet_loading
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.fitted import Fitted
from lorascope.zoo.engine.grouping import PER_LANE, JobShape
from lorascope.zoo.engine.language import quick
from lorascope.zoo.engine.language.fit import SLOTS, WordLesson, fit_adapters, shape_of
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.jobs import FitJob
from lorascope.zoo.engine.language.packed_lesson import PackedLesson

__all__ = ["LanguageEngine", "PackedEngine", "load_model"]

CPU = torch.device("cpu")


class LanguageEngine:
    """Finetunes Qwen2 and Llama models, many adapters at once."""

    slots: ClassVar[int] = SLOTS
    per_lane: ClassVar[int] = PER_LANE
    exact_steps: ClassVar[int] = 4
    lesson: ClassVar[type[WordLesson]] = WordLesson

    def compiles(self) -> bool:
        """Whether kernels can be compiled here; says so once where they cannot."""
        return quick.library() is not None

    def load(
        self,
        folder: Path,
        dtype: torch.dtype,
        compiled: bool,
        device: torch.device = CPU,
        exact_steps: int = 0,
    ) -> FrozenBase:
        """The base of a folder as transformers saves it, on the device that trains."""
        if not exact_steps:
            base = FrozenBase.of(load_model(folder), dtype).to(device=device)
            return replace(base, compiled=compiled)
        exact = FrozenBase.of(load_model(folder), torch.float32).to(device=device)
        return replace(exact, compiled=compiled).opened(dtype, exact_steps)

    def shape(self, job: FitJob) -> JobShape:
        """What decides with which others a job trains."""
        return shape_of(job)

    def fit(
        self,
        base: FrozenBase,
        specs: AdapterSpec | Sequence[AdapterSpec],
        jobs: Sequence[FitJob],
        slots: int,
    ) -> Fitted:
        """One adapter for each job, in their order."""
        return fit_adapters(base, specs, jobs, slots=slots, lesson=self.lesson)


class PackedEngine(LanguageEngine):
    """The same for examples of different lengths, several in a row (`packed_lesson.py`)."""

    lesson: ClassVar[type[WordLesson]] = PackedLesson


def load_model(folder: Path) -> torch.nn.Module:
    """The base model of a folder in float32, frozen.

    Raises:
        MissingExtraError: transformers is not installed.
    """
    try:
        from transformers import AutoModelForCausalLM
    except ImportError as missing:
        raise MissingExtraError("transformers", "zoo", "loading a base model") from missing
    with quiet_loading():
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, attn_implementation="sdpa"
        )
    frozen: torch.nn.Module = model.eval().requires_grad_(False)
    return frozen
