"""Models that are solved instead of descended, in two steps, of which many targets share the first.

    study(LoRAs)           -> what depends on the LoRAs alone: statistics, features, Gram matrices
    solve(study, labels)   -> the answer for one target

`fit` is the one after the other. What it is not: a solver; each model brings its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.errors import DataError, TrainingError
from lorascope.models.model import Kind, Model

__all__ = ["ChooseBy", "ClosedForm", "Labels", "Study"]

ChooseBy = Literal["left_out", "validation"]
Facts = tuple[Tensor | None, ...]


@dataclass(frozen=True, eq=False)
class Study:
    """What a model found in LoRAs without labels.

    `facts` are tensors of the training LoRAs, `held` those of the validation LoRAs where the model wants
    any. `once` keeps costly results that depend on rows alone, such as eigenvectors.
    """

    size: int
    facts: Facts
    held: Facts | None = None
    results: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """The result of `make`, computed the first time that this key is asked for."""
        if key not in self.results:
            self.results[key] = make()
        return self.results[key]


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of one target for some of the LoRAs of a study.

    `rows` says which training LoRAs have one, `groups` numbers those that share data. `held` are rows
    of the validation LoRAs and their labels, where the choice is made on them. `beside` is all that is known
    of the training LoRAs, this target among it, as standardised numbers, for models that read it.
    """

    y: Tensor  # (b, k) float64
    kind: Kind
    rows: Tensor  # (b,) int64
    groups: Tensor | None = None  # (b,) int64
    held: tuple[Tensor, Tensor] | None = None  # (B,) int64, (B, k) float64
    beside: Tensor | None = None  # (b, a) float64

    @property
    def key(self) -> bytes:
        """The rows as something to look a result up by."""
        return self.rows.cpu().numpy().tobytes()


class ClosedForm(Model):
    """A model that is solved: `fit` fills its buffers, `score` reads them.

    It has no parameters for an optimiser. What must be chosen (strengths, bandwidths) is chosen by the
    error on LoRAs left out of the training set, which wastes none, or with `choose_by="validation"` by
    the error on the validation LoRAs. A subclass fills `study` and `solve` and names in `solved` the
    buffers that `solve` fills; all others belong to the study. `reads_beside` says that it learns a target
    from the other labels of the same LoRAs too.
    """

    solved: tuple[str, ...] = ()
    reads_beside: ClassVar[bool] = False

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        choose_by: ChooseBy,
        options: dict[str, Any] | None = None,
    ) -> None:
        if choose_by not in get_args(ChooseBy):
            raise DataError(
                f"Building the model {self.name!r}: found choose_by={choose_by!r}, expected one of "
                f"{', '.join(get_args(ChooseBy))}"
            )
        options = {"choose_by": choose_by, **(options or {})}
        super().__init__(signature, out_features, rank=rank, options=options)
        self.choose_by = choose_by

    # --- to fill ------------------------------------------------------------------------------

    def study(self, batch: LoRABatch, held: LoRABatch | None = None) -> Study:
        """Reads the training LoRAs (and the validation LoRAs to choose on) without their labels."""
        raise NotImplementedError(f"{type(self).__name__} must fill study()")

    def solve(self, study: Study, labels: Labels) -> None:
        """Solves for one target, after its own study or one that it adopted."""
        raise NotImplementedError(f"{type(self).__name__} must fill solve()")

    # --- shared -------------------------------------------------------------------------------

    @torch.no_grad()
    def fit(
        self,
        batch: LoRABatch,
        y: Tensor,  # (b, k) float, or (b,) class indices for multiclass
        *,
        kind: Kind,
        validation: tuple[LoRABatch, Tensor] | None = None,
        groups: Tensor | None = None,  # (b,) int64
    ) -> None:
        """Solves for the training LoRAs.

        `y` holds standardised values (regression), 0 or 1 (multilabel, multiclass as one-hot) or
        class indices (multiclass). `groups` numbers the LoRAs that share data: they are left out
        together when the regularisation is chosen. `validation` is used where the model's option
        asks for it.
        """
        self.check(batch)
        columns = self.targets(batch, y, kind)
        held = self.held_out(validation, kind)
        study = self.study(batch, held and held[0])
        held_labels = held and (torch.arange(held[0].size, device=self.device), held[1])
        rows = torch.arange(batch.size, device=self.device)
        beside = _standardised(columns) if self.reads_beside else None
        self.solve(study, Labels(columns, kind, rows, groups, held_labels, beside))

    def adopt(self, studied: "ClosedForm") -> None:
        """Takes over what another model of the same build stored in its study."""
        state = studied.state_dict()
        self.load_state_dict({k: v for k, v in state.items() if k not in self.solved}, strict=False)

    def held_out(
        self, validation: tuple[LoRABatch, Tensor] | None, kind: Kind
    ) -> tuple[LoRABatch, Tensor] | None:
        """The validation LoRAs and their label columns where `choose_by` asks for them, else None."""
        if self.choose_by == "left_out":
            return None
        if validation is None or validation[0].size == 0:
            raise DataError(
                f"Fitting the model {self.name!r} with choose_by='validation': found no validation "
                "LoRAs. Try choose_by='left_out', which needs none."
            )
        self.check(validation[0])
        return validation[0], self.targets(*validation, kind)

    def targets(self, batch: LoRABatch, y: Tensor, kind: Kind) -> Tensor:  # (b, k)
        """Labels as float64 columns: values as they are, classes as one-hot rows.

        Raises DataError where their shape does not fit the batch and `out_features`.
        """
        if kind == "multiclass" and y.ndim == 1:
            y = torch.nn.functional.one_hot(y.long(), self.out_features)
        columns = y.to(self.device).double().reshape(y.shape[0], -1)
        if columns.shape != (batch.size, self.out_features):
            raise DataError(
                f"Fitting the model {self.name!r}: found labels of shape {tuple(y.shape)} for "
                f"{batch.size} LoRAs, expected ({batch.size}, {self.out_features})"
            )
        if not bool(columns.isfinite().all()):
            bad = int((~columns.isfinite()).any(1).nonzero()[0])
            raise DataError(
                f"Fitting the model {self.name!r}: the label of LoRA {bad} is not a finite number. "
                "Try leaving out the rows without a label."
            )
        return columns

    def require_fitted(self, buffer: Tensor) -> None:
        """Raises TrainingError while `buffer` is still empty."""
        if buffer.numel() == 0:
            raise TrainingError(
                f"Applying the model {self.name!r}: it has not been fitted. "
                "Try model.fit(batch, y, kind=...) or load a saved state."
            )


def _standardised(columns: Tensor) -> Tensor:  # (b, k)
    """Columns of mean 0 and deviation 1; those without a deviation are 0."""
    centred = columns - columns.mean(0)
    deviation = centred.std(0, correction=0)
    return torch.where(deviation > 0, centred / deviation, 0.0)
