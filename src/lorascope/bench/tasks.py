"""The tasks of the benchmark: a zoo with its targets as they are asked there.

    score with a value of the base    the change, label - the base's own value
    learning rate                     its logarithm to base 10, a target of its own
    steps (or epochs)                 a target of their own, where they vary

Hyper-parameters that are the answer to a target are kept from the control that reads hyper-parameters.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorascope.io.shards import Zoo, open_zoo
from lorascope.predict.target import Target
from lorascope.train.data import LabelledLoRAs, from_zoo
from lorascope.train.splits import Split

__all__ = [
    "ANSWERS",
    "MERGED",
    "NOT_BUILT",
    "ZooFacts",
    "base_values",
    "facts_of",
    "same_groups",
    "tasks_of",
    "unlearned",
    "without_answer",
    "without_hyper",
]

Array = NDArray[np.float64]

#: target -> the hyper-parameters that say it.
ANSWERS: Mapping[str, tuple[str, ...]] = {
    "dataset_size": ("images",),
    "learning_rate": ("learning_rate",),
    "steps": ("steps",),
    "epochs": ("epochs",),
}
#: Column of the tables -> targets that share it, as their mean.
MERGED: Mapping[str, tuple[str, ...]] = {
    "traits": ("face_width", "skin_tone", "eye_height", "eye_spacing", "hair_tone")
}
#: In place of the digest of a zoo that is still to be built.
NOT_BUILT = ""
#: Families that draw their groups anew from each seed: person-7 of one zoo is not person-7 of another.
DRAWN = ("faces",)


@dataclass(frozen=True)
class ZooFacts:
    """What a plan and a report need to know of a zoo."""

    name: str
    folder: str
    digest: str  # of its index, which holds labels and the sha256 of every LoRA
    loras: int
    numbers: int  # of one LoRA
    family: str
    base: str
    targets: Mapping[str, Mapping[str, Any]]
    ceilings: Mapping[str, Mapping[str, float]]


def facts_of(name: str, folder: Path | str) -> ZooFacts:
    """The facts of a zoo on disk; raises as `open_zoo`."""
    zoo = open_zoo(folder)
    targets = {key: _change(target, zoo) for key, target in _targets(zoo).items()}
    rank = int(zoo.column("rank").max(initial=1))
    return ZooFacts(
        name=name,
        folder=str(folder),
        digest=hashlib.sha256((zoo.path / "index.parquet").read_bytes()).hexdigest()[:16],
        loras=len(zoo),
        numbers=rank * sum(layer.n + layer.m for layer in zoo.signature.layers),
        family=str(zoo.recipe.get("family", "imported")),
        base=_base_name(zoo.recipe),
        targets=targets,
        ceilings=_ceilings(zoo, targets),
    )


def tasks_of(zoo: Zoo, *, name: str | None = None) -> LabelledLoRAs:
    """A zoo in memory with the targets of the benchmark."""
    data = from_zoo(zoo)
    targets: dict[str, Target] = dict(data.targets)
    labels: dict[str, Array] = dict(data.labels)
    for key, base in base_values(zoo).items():
        labels[key] = labels[key] - base
    for key, (target, read) in _hyper_targets(zoo).items():
        targets[key], labels[key] = target, read(data.hyper)[:, None]
    return replace(data, targets=targets, labels=labels, source=name or data.source)


def base_values(zoo: Zoo) -> dict[str, float]:
    """The base's own value of every score that is asked as the change against it."""
    return {
        name: float(target["base_value"])
        for name, target in zoo.targets.items()
        if target.get("kind") == "regression" and target.get("base_value") is not None
    }


def without_answer(data: LabelledLoRAs, target: str) -> LabelledLoRAs:
    """The data without the hyper-parameters that are the answer to a target."""
    hidden = ANSWERS.get(target, ())
    return replace(data, hyper={k: v for k, v in data.hyper.items() if k not in hidden})


def without_hyper(data: LabelledLoRAs) -> LabelledLoRAs:
    """The data without any hyper-parameter: weights, groups and the labels of all targets are left.

    Every method but the control that reads them is given this. A default that learned from the batch size
    or the prompt of its training LoRAs would know more than the others.
    """
    return replace(data, hyper={})


def same_groups(zoo: Zoo, other: Zoo) -> bool:
    """Whether groups of one name are one group in both zoos: a set of sources is, a drawn person is not."""
    family, theirs = (of.recipe.get("family") for of in (zoo, other))
    if family != theirs:
        return False
    return family not in DRAWN or zoo.recipe.get("seed") == other.recipe.get("seed")


def unlearned(other: LabelledLoRAs, data: LabelledLoRAs, split: Split) -> LabelledLoRAs:
    """The LoRAs of another zoo whose groups no training or validation row of a split has."""
    if other.groups is None or data.groups is None:
        return other
    learned = {data.groups[int(row)] for part in split.parts()[:2] for row in part}
    kept = [row for row, group in enumerate(other.groups) if group not in learned]
    return other if len(kept) == len(other) else other.select(np.array(kept, dtype=np.int64))


Read = Callable[[Mapping[str, Array]], Array]


def _hyper_targets(zoo: Zoo) -> dict[str, tuple[Target, Read]]:
    """The targets that hyper-parameters are, where they vary."""
    found: dict[str, tuple[Target, Read]] = {}
    varying = {name for name, values in zoo.hyper().items() if _varies(values)}
    if "learning_rate" in varying:
        target = Target("learning_rate", "regression", unit="log10")
        found["learning_rate"] = target, lambda hyper: np.log10(hyper["learning_rate"])
    for name in ("steps", "epochs"):
        if name in varying and not {"steps", "epochs"} & set(found):
            found[name] = Target(name, "regression"), lambda hyper, name=name: hyper[name]  # type: ignore[misc]
    return {name: pair for name, pair in found.items() if name not in zoo.targets}


def _varies(values: NDArray[Any]) -> bool:
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    return len(known) > 0 and float(np.ptp(known)) > 0


def _targets(zoo: Zoo) -> dict[str, Target]:
    own = {name: Target.from_json(target, name) for name, target in zoo.targets.items()}
    return own | {name: target for name, (target, _) in _hyper_targets(zoo).items()}


def _change(target: Target, zoo: Zoo) -> dict[str, Any]:
    """A target as plain data, with the base's own value where labels are the change against it."""
    base = zoo.targets.get(target.name, {}).get("base_value")
    return target.to_json() | ({} if base is None else {"base_value": float(base)})


def _ceilings(zoo: Zoo, targets: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The ceilings that the zoo reports; a hyper-parameter is known exactly."""
    told = zoo.report.get("ceilings", {})
    found: dict[str, dict[str, float]] = {}
    for name, target in targets.items():
        of = told.get(name, {}) if isinstance(told, Mapping) else {}
        numbers = {key: float(x) for key, x in of.items() if isinstance(x, int | float)}
        found[name] = {target["metric"]: 1.0} if name not in zoo.targets else numbers
    return found


def _base_name(recipe: Mapping[str, Any]) -> str:
    base = recipe.get("base")
    return str(base.get("folder", "")) if isinstance(base, Mapping) else str(base or "")
