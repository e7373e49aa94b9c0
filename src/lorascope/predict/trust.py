"""`Trust`: what a predictor knows about its own answers, learned from LoRAs that were held out.

    probabilities   logits -> calibrated logits                (classes)
    interval        how far off a value is, 9 times of 10      (values), which classes are possible (classes)
    outliers        which LoRAs it should not be asked about

Each part may be missing: a predictor without any answers as its model does, without a word on how sure it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lorascope.core.batch import LoRABatch
from lorascope.core.lora import LoRA
from lorascope.core.magnitudes import MAGNITUDE, side_kinds
from lorascope.core.signature import Signature
from lorascope.predict.calibration import ProbabilityMap
from lorascope.predict.intervals import Interval
from lorascope.predict.outlier import Outliers, Verdict

__all__ = ["Trust", "kinds_beside"]

BESIDE = "tensors beside the factors"  # the rule, in short
#: Outlier score of a LoRA with parts that no training LoRA had, or without what all had.
UNKNOWN_SIDE = 2.0


@dataclass(frozen=True, eq=False)
class Trust:
    """The parts that are there. `side` are the kinds of side tensors that training LoRAs had (None: unknown),
    `always` those of them that make a method and that every one had: DoRA's magnitudes, or none.

    Example:
        >>> Trust(interval=Interval(0.5, 99)).to_json()
        {'interval': {'half': 0.5, 'groups': 99, 'level': 0.9}}
    """

    probabilities: ProbabilityMap | None = None
    interval: Interval | None = None
    outliers: Outliers | None = None
    side: tuple[str, ...] | None = None
    always: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data of all that is no tensor; `outliers` says that there are some."""
        data: dict[str, Any] = {}
        if self.probabilities is not None:
            data["probabilities"] = self.probabilities.to_json()
        if self.interval is not None:
            data["interval"] = self.interval.to_json()
        if self.outliers is not None:
            data["outliers"] = True
        if self.side is not None:
            data["side"] = list(self.side)
        if self.always:
            data["always"] = list(self.always)
        return data

    def verdicts(self, batch: LoRABatch, loras: Sequence[LoRA] = ()) -> list[Verdict | None]:
        """How unusual each LoRA of a batch is; None where nobody learned it.

        Side tensors (DoRA magnitudes, biases, ...) of a kind that no training LoRA had are beyond the limit,
        because nothing is known of what they do, and so is a LoRA without the magnitudes that every training
        LoRA had. `loras` are the same LoRAs with what no batch holds: all side tensors but magnitudes.
        """
        found: list[Verdict | None] = [None] * batch.size
        if self.outliers is not None and batch.size:
            found = list(self.outliers.verdicts(batch))
        if self.side is None:
            return found
        for number, kinds in enumerate(kinds_beside(batch, loras)):
            if unknown := sorted(kinds - set(self.side)):
                reason = f"it has {', '.join(unknown)} tensors, which no training LoRA had"
                found[number] = _beyond(found[number], reason)
            elif lacking := sorted(set(self.always) - kinds):
                reason = f"it has no {', '.join(lacking)} tensors, which every training LoRA had"
                found[number] = _beyond(found[number], reason)
        return found

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors of the detectors, by name."""
        return {} if self.outliers is None else self.outliers.state_dict()

    @classmethod
    def from_parts(
        cls, data: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], signature: Signature
    ) -> "Trust":
        """The inverse of `to_json` and `tensors`. Raises RuntimeError where the tensors do not fit."""
        outliers = None
        if data.get("outliers"):
            outliers = Outliers(signature)
            outliers.load_state_dict(dict(tensors))
        return cls(
            ProbabilityMap.from_json(data["probabilities"]) if "probabilities" in data else None,
            Interval.from_json(data["interval"]) if "interval" in data else None,
            outliers,
            tuple(str(kind) for kind in data["side"]) if "side" in data else None,
            tuple(str(kind) for kind in data.get("always", ())),
        )


def kinds_beside(batch: LoRABatch, loras: Sequence[LoRA] = ()) -> list[set[str]]:
    """The kinds of side tensors of each LoRA of a batch; without the LoRAs only magnitudes are known."""
    if loras:
        return [side_kinds(lora) for lora in loras]
    if batch.magnitudes is None:
        return [set() for _ in range(batch.size)]
    return [{MAGNITUDE} if some else set() for some in batch.magnitudes.present.any(1).tolist()]


def _beyond(verdict: Verdict | None, reason: str) -> Verdict:
    """A verdict beyond the limit because of side tensors."""
    if verdict is None:
        return Verdict(UNKNOWN_SIDE, {}, reason, BESIDE)
    if verdict.abstain:
        reason = f"{reason}; {verdict.reason}"
    return Verdict(max(verdict.score, UNKNOWN_SIDE), verdict.by, reason, BESIDE)
