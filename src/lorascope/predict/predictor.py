"""`Predictor`: a trained model with all that an answer needs, from LoRAs to `Prediction`s.

    LoRAs --collate under the signature--> batch --model--> (b, k) --scaler or probabilities--> Prediction

It knows how the answer is read (target, scaler), for which layers and base (signature) and how good it was
on LoRAs that it never saw (report). It holds no training code and reaches none.
"""

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lorascope.core.batch import LoRABatch, collate
from lorascope.core.lora import LoRA
from lorascope.core.magnitudes import MAGNITUDE
from lorascope.core.signature import Signature
from lorascope.errors import DataError, LayerError
from lorascope.models.model import Model
from lorascope.predict.outlier import Verdict
from lorascope.predict.prediction import Prediction
from lorascope.predict.scaler import Scaler
from lorascope.predict.target import Target
from lorascope.predict.trust import Trust, kinds_beside

#: LoRAs that go through the model at once: bounds the memory of a prediction over a large collection.
BATCH = 256


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained model bound to a signature and a target.

    `report` is plain data about its training: at least `metrics` (scores on the validation and the test
    rows), and whatever `train.fit` adds (rows, seconds, parameters, settings, versions). `trust` calibrates its
    probabilities, gives intervals, and says which LoRAs it should not be asked about.

    Under g: as the model declares; nothing here depends on the gauge.
    """

    model: Model
    target: Target
    scaler: Scaler = field(default_factory=Scaler)
    report: Mapping[str, Any] = field(default_factory=dict)
    trust: Trust = field(default_factory=Trust)

    def __post_init__(self) -> None:
        if self.model.out_features != self.target.out_features:
            raise DataError(
                f"Making a predictor of {self.target.name!r}: the model {self.model.name!r} has "
                f"{self.model.out_features} outputs, the target needs {self.target.out_features}."
            )

    @property
    def signature(self) -> Signature:
        """The layers and the base that it was trained on."""
        return self.model.signature

    @property
    def held_out(self) -> dict[str, float | None]:
        """Its scores on rows that it never saw, empty when nobody measured them."""
        metrics = self.report.get("metrics", {})
        return dict(metrics.get("test", {}) if isinstance(metrics, Mapping) else {})

    def predict(self, loras: LoRA | Sequence[LoRA] | LoRABatch) -> list[Prediction]:
        """One prediction for each LoRA, in order.

        Raises SignatureError for extra layers, changed sizes or missing layers where the model needs all of
        them, RankError for a rank above what the model takes, LayerError for a LoRA with none of the layers and
        for factors that are not finite or lead to no finite answer. A LoRA of another or an unknown base, and
        one with tensors that are not read or without magnitudes that are, is answered with a warning.
        """
        if isinstance(loras, LoRA):
            loras = [loras]
        if isinstance(loras, LoRABatch):
            bases: Sequence[str | None] = [loras.signature.base] * loras.size
            batch = loras
        else:
            bases = [lora.provenance.base for lora in loras]
            batch = collate(loras, self.signature, allow_missing=self.model.accepts_missing)
        self._check_layers(batch, loras)
        self._check_finite(batch, loras)
        try:
            outputs = self.outputs(batch)
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            what = "the model's decomposition of the factors failed"
            raise self._no_answer(batch, loras, what) from error
        finite = [bool(np.isfinite(row).all()) for row in outputs]
        if not all(finite):
            what = "the answer is NaN or infinity"
            raise self._no_answer(batch, loras, what, finite.index(False))
        present = batch.present.float().mean(1).tolist() if batch.size else []
        read = () if isinstance(loras, LoRABatch) else loras
        verdicts = self.trust.verdicts(batch, read)
        facts = zip(outputs, present, bases, kinds_beside(batch, read), verdicts, strict=True)
        return [self._prediction(*fact) for fact in facts]

    def outputs(self, batch: LoRABatch) -> NDArray[np.float64]:
        """Values in the units of the label, or probabilities, (b, k), for a batch of its signature.

        Probabilities are calibrated where the predictor has learned how.
        """
        return read_outputs(self.target, self.scaler, self.raw_outputs(batch), self.trust)

    def raw_outputs(self, batch: LoRABatch) -> torch.Tensor:  # (b, k)
        """What the model itself says: standardised values or logits."""
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                raw = [
                    self.model(
                        batch.select(slice(i, i + BATCH)).to(self.model.dtype, self.model.device)
                    )
                    for i in range(0, max(batch.size, 1), BATCH)
                ]
        finally:
            self.model.train(was_training)
        return torch.cat(raw)

    def save(self, folder: str | Path) -> Path:
        """Write `predictor.json` and `model.safetensors` into a folder, atomically; returns the folder.

        Raises FileError when the folder exists and is no predictor.
        """
        from lorascope.predict.folder import save_predictor

        return save_predictor(self, folder)

    def _check_finite(self, batch: LoRABatch, loras: Sequence[LoRA] | LoRABatch) -> None:
        finite = finite_loras(batch)
        if all(finite):
            return
        raise LayerError(
            f"{self._place(finite.index(False), loras)}: the factors or magnitudes hold NaN or infinity, "
            "expected finite numbers. Try: lorascope inspect, which names the layers."
        )

    def _check_layers(self, batch: LoRABatch, loras: Sequence[LoRA] | LoRABatch) -> None:
        some = batch.present.any(1).tolist()
        if all(some):
            return
        raise LayerError(
            f"{self._place(some.index(False), loras)}: it has none of the {len(self.signature)} layers that "
            "the model reads, expected at least one. Try: lorascope inspect, which lists its layers."
        )

    def _no_answer(
        self,
        batch: LoRABatch,
        loras: Sequence[LoRA] | LoRABatch,
        what: str,
        number: int | None = None,
    ) -> LayerError:
        """What happened to the LoRA of a number, or else to the one of the largest values."""
        largest = torch.stack([x.abs().amax((0, 2, 3)) for g in batch.groups for x in (g.u, g.v)])
        number = int(largest.amax(0).argmax()) if number is None else number
        return LayerError(
            f"{self._place(number, loras)}: {what}; the factors hold values up to "
            f"{float(largest[:, number].max()):.3g}, expected sizes as training gives them. "
            "Try: lorascope inspect, which shows each layer's norm."
        )

    def _place(self, number: int, loras: Sequence[LoRA] | LoRABatch) -> str:
        source = "" if isinstance(loras, LoRABatch) else loras[number].provenance.source
        return f"Predicting {self.target.name!r} of LoRA number {number} ({source or 'in memory'})"

    def _prediction(
        self,
        row: NDArray[np.float64],
        coverage: float,
        base: str | None,
        beside: Set[str],
        verdict: Verdict | None,
    ) -> Prediction:
        warnings = [
            *self._base_warning(base),
            *self._coverage_warning(coverage),
            *self._side_warnings(beside),
        ]
        interval = self.trust.interval
        fields: dict[str, Any] = {
            "target": self.target,
            "coverage": coverage,
            "held_out": self.held_out,
            "warnings": tuple(warnings),
            "level": None if interval is None else interval.level,
        }
        if verdict is not None:
            fields |= {"outlier": verdict.score, "reason": verdict.reason}
        if self.target.kind == "regression":
            around = None if interval is None else interval.around(float(row[0]))
            return Prediction(value=float(row[0]), interval=around, **fields)
        probabilities = dict(zip(self.target.classes, row.tolist(), strict=True))
        if self.target.kind == "multilabel":
            return Prediction(probabilities=probabilities, **fields)
        return Prediction(
            probabilities=probabilities,
            label=max(probabilities, key=probabilities.__getitem__),
            possible=() if interval is None else interval.classes(probabilities),
            **fields,
        )

    def _base_warning(self, base: str | None) -> list[str]:
        ours = self.signature.base
        if ours is None or (base is not None and base_name(base) == base_name(ours)):
            return []
        found = "does not say what it belongs to" if base is None else f"belongs to {base!r}"
        return [
            f"base: the LoRA {found}; this predictor was trained on LoRAs of {ours!r} and knows "
            "nothing of other bases."
        ]

    def _coverage_warning(self, coverage: float) -> list[str]:
        if coverage >= 1.0:
            return []
        total = len(self.signature)
        return [
            f"coverage: the LoRA has {round(coverage * total)} of the {total} layers; the missing "
            "ones were read as unchanged."
        ]

    def _side_warnings(self, beside: Set[str]) -> list[str]:
        """What of a LoRA was not read, and whether it lacks what the model reads."""
        reads = {MAGNITUDE} if self.model.reads_magnitudes else set()
        warnings = []
        if unread := sorted(beside - reads):
            why = f"the model {self.model.name!r} does not read"
            if MAGNITUDE in unread and self.model.accepts_magnitudes:
                why = "this predictor, trained without magnitudes, does not read"
            warnings.append(
                f"side: the LoRA has {', '.join(unread)} tensors beside its factors, which {why}."
            )
        if reads - beside:
            warnings.append(
                f"side: the LoRA has no {MAGNITUDE} tensors, which this predictor reads; it was answered by "
                "its factors alone."
            )
        return warnings


def base_name(base: str) -> str:
    """What two spellings of one base share: the model's own name, of whatever owner, disk or spelling of case.

    The same base is a name on the hub to one trainer, and a folder to another.

    Example:
        >>> base_name("Qwen/Qwen2-1.5B") == base_name("/models/qwen2-1.5b/")
        True
    """
    words = [word for word in re.split(r"[/\\]", base) if word]
    # the hub's cache: models--OWNER--NAME/snapshots/REVISION
    if len(words) > 2 and words[-2] == "snapshots":
        words.append(words[-3].rpartition("--")[2])
    return words[-1].casefold() if words else base


def finite_loras(batch: LoRABatch) -> list[bool]:
    """For each LoRA whether all its factors and magnitudes are finite."""
    groups = batch.groups if batch.rank else ()
    parts = [x.abs().amax((0, 2, 3)).isfinite() for g in groups for x in (g.u, g.v)]
    if batch.magnitudes is not None:
        parts += [m.abs().amax((0, 2)).isfinite() for m in batch.magnitudes.groups]
    if not parts:
        return [True] * batch.size
    return [bool(value) for value in torch.stack(parts).all(0)]


def read_outputs(
    target: Target, scaler: Scaler, raw: torch.Tensor, trust: Trust | None = None
) -> NDArray[np.float64]:
    """A model's outputs (b, k) as values in the units of the label or as probabilities, float64.

    With `trust`, probabilities are calibrated.

    A value that is not finite stays so: who scores or shows it must say it.
    """
    raw = raw.detach().double().cpu()
    if trust is not None and trust.probabilities is not None:
        raw = torch.from_numpy(trust.probabilities.apply(raw.numpy()))
    if target.kind == "multilabel":
        return np.asarray(raw.sigmoid().numpy(), dtype=np.float64)
    if target.kind == "multiclass":
        return np.asarray(raw.softmax(1).numpy(), dtype=np.float64)
    return scaler.undo(np.asarray(raw.numpy(), dtype=np.float64))
