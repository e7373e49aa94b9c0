"""`LabelledLoRAs`: what is learned from. A batch in memory, its labels, groups and hyper-parameters.

It comes from a zoo or from LoRAs in memory; training and benchmarks see only this. Rows keep their place:
a label that is missing is NaN, and whoever trains leaves its row out and says how many.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from lorascope.core.batch import LoRABatch, collate
from lorascope.core.lora import LoRA
from lorascope.core.magnitudes import MAGNITUDE, side_kinds
from lorascope.core.signature import Signature
from lorascope.errors import DataError
from lorascope.predict.predictor import finite_loras
from lorascope.predict.target import Target, encode_labels
from lorascope.train.splits import Rows

if TYPE_CHECKING:
    from lorascope.io.shards import Zoo

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LabelledLoRAs:
    """N LoRAs of one signature with their labels.

    `labels` holds (N, k) float64 for each target, encoded, NaN where missing; `groups` one name per row
    (None: nobody knows what the rows share); `hyper` one number per row and hyper-parameter; `source`
    says where it came from, by a name and not by a path: it is stored with predictors. `side` are the kinds
    of side tensors that the LoRAs have beside their pairs (None: nobody looked); of these, the batch holds
    DoRA's magnitudes.
    Raises DataError when the lengths differ.
    """

    batch: LoRABatch
    targets: Mapping[str, Target]
    labels: Mapping[str, Array]
    groups: Sequence[str] | None = None
    hyper: Mapping[str, Array] = field(default_factory=dict)
    source: str = "memory"
    side: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        columns: dict[str, int] = {f"labels of {k!r}": len(v) for k, v in self.labels.items()}
        columns |= {f"hyper-parameter {k!r}": len(v) for k, v in self.hyper.items()}
        if self.groups is not None:
            columns["groups"] = len(self.groups)
        for name, length in columns.items():
            if length != len(self):
                raise DataError(
                    f"Labelling {len(self)} LoRAs from {self.source}: found {length} entries in the "
                    f"{name}, expected one for each LoRA."
                )
        if unlabelled := sorted(set(self.targets) - set(self.labels)):
            raise DataError(
                f"Labelling LoRAs from {self.source}: the target {unlabelled[0]!r} has no labels."
            )

    def __len__(self) -> int:
        return self.batch.size

    @property
    def always(self) -> tuple[str, ...]:
        """The kinds of side tensors that make a method and that every LoRA has: DoRA's magnitudes, or none."""
        magnitudes = self.batch.magnitudes
        every = magnitudes is not None and bool(magnitudes.present.any(1).all()) and len(self) > 0
        return (MAGNITUDE,) if every else ()

    def target(self, name: str) -> Target:
        """The target of a name; raises DataError naming those that exist."""
        if name not in self.targets:
            raise DataError(
                f"Looking up the target {name!r} in {self.source}: expected one of "
                f"{', '.join(sorted(self.targets)) or 'none, it has no labels'}."
            )
        return self.targets[name]

    def known(self, name: str) -> Rows:
        """The rows whose label of a target is not missing, ascending."""
        return np.flatnonzero(~np.isnan(self.labels[name]).any(axis=1)).astype(np.int64)

    def check_finite(self, rows: Rows) -> None:
        """Raises DataError naming the first of the rows whose factors or magnitudes hold NaN or infinity."""
        finite = finite_loras(self.batch)
        bad = next((int(row) for row in np.sort(rows) if not finite[int(row)]), None)
        if bad is not None:
            raise DataError(
                f"Learning from {self.source}: the factors or magnitudes of row {bad} hold NaN or infinity, "
                "expected finite numbers. Try: leave that LoRA out."
            )

    def digests(self, targets: Sequence[str]) -> dict[str, str]:
        """For each target the sha256 of all that a result depends on: LoRAs, hyper, groups and labels."""
        digest = hashlib.sha256(self.batch.signature.digest().encode())
        factors = [tensor for group in self.batch.groups for tensor in (group.u, group.v)]
        if (magnitudes := self.batch.magnitudes) is not None:
            factors += [*magnitudes.groups, magnitudes.present]
        for tensor in (*factors, self.batch.ranks):
            digest.update(tensor.contiguous().cpu().view(torch.uint8).numpy().data)
        for name in sorted(self.hyper):
            digest.update(name.encode() + np.ascontiguousarray(self.hyper[name]).tobytes())
        digest.update(repr(None if self.groups is None else list(self.groups)).encode())
        digests = {}
        for name in targets:
            own = digest.copy()
            own.update(repr(self.target(name).to_json()).encode())
            own.update(np.ascontiguousarray(self.labels[name]).tobytes())
            digests[name] = own.hexdigest()
        return digests

    def select(self, rows: Rows) -> "LabelledLoRAs":
        """Some of the rows, in the order given."""
        return replace(
            self,
            batch=self.batch.select(torch.from_numpy(rows)),
            labels={name: values[rows] for name, values in self.labels.items()},
            groups=None if self.groups is None else [self.groups[int(row)] for row in rows],
            hyper={name: values[rows] for name, values in self.hyper.items()},
        )


def label_loras(
    loras: Sequence[LoRA],
    labels: Mapping[str, Sequence[Any]],
    targets: Sequence[Target],
    *,
    groups: Sequence[str] | None = None,
    hyper: Mapping[str, Sequence[float]] | None = None,
    allow_missing: bool = False,
) -> LabelledLoRAs:
    """LoRAs in memory with their labels, one entry of each per LoRA.

    With `allow_missing` the layers are those that any of the LoRAs has, and a layer that one of them lacks is
    read as unchanged; which of them comes first does not matter.
    Raises DataError for labels that do not fit their target, SignatureError for LoRAs of unlike layers.
    """
    known = {target.name: target for target in targets}
    if missing := sorted(set(known) - set(labels)):
        raise DataError(f"Labelling {len(loras)} LoRAs: the target {missing[0]!r} has no labels.")
    every = Signature.union(lora.signature() for lora in loras) if allow_missing and loras else None
    return LabelledLoRAs(
        batch=collate(loras, every, allow_missing=allow_missing),
        targets=known,
        labels={name: encode_labels(target, labels[name]) for name, target in known.items()},
        groups=groups,
        hyper={name: np.asarray(v, dtype=np.float64) for name, v in (hyper or {}).items()},
        side=tuple(sorted({kind for lora in loras for kind in side_kinds(lora)})),
    )


def from_zoo(zoo: "Zoo", targets: Sequence[str] | None = None) -> LabelledLoRAs:
    """A whole zoo in memory, with the labels of some of its targets (all by default).

    Raises DataError for a target that the zoo does not have.
    """
    names = list(zoo.targets) if targets is None else list(targets)
    if unknown := [name for name in names if name not in zoo.targets]:
        raise DataError(
            f"Looking up the target {unknown[0]!r} in {zoo.path}: expected one of "
            f"{', '.join(sorted(zoo.targets)) or 'none, it has no labels'}."
        )
    known = {name: Target.from_json(zoo.targets[name], name) for name in names}
    return LabelledLoRAs(
        batch=zoo.batch(dtype=torch.float32),
        targets=known,
        labels={name: encode_labels(known[name], zoo.labels(name)) for name in names},
        groups=[str(group) for group in zoo.groups()],
        hyper={name: np.asarray(v, dtype=np.float64) for name, v in zoo.hyper().items()},
        source=zoo.path.resolve().name,
        side=tuple(sorted(zoo.side_kinds())) if len(zoo) else None,
    )
