"""One LoRA made again, alone, from recipe and index; and how near it comes to the stored one.

    distance   ||dW - dW'|| / ||dW|| over all layers
    cosine     <dW, dW'> / (||dW|| ||dW'||)

A LoRA is a pure function of the recipe and its index. Bytes depend on how the sums were ordered: the
same machine, the same versions and the same group give the same bytes; alone, in another group or on
another processor, rounding differs, and the update and the labels come near.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from lorascope.core.lora import LoRA
from lorascope.errors import DataError, FileError, IntegrityError, TrainingError
from lorascope.io.shard_file import lora_digest
from lorascope.io.shards import LABEL, Zoo, open_zoo, read_json
from lorascope.zoo.factory.build import start_work, usable
from lorascope.zoo.factory.family import Family, engine_of
from lorascope.zoo.factory.log import build_events
from lorascope.zoo.factory.plan import Group
from lorascope.zoo.factory.restore import check_recipe, family_of, origin_of, torch_dtype

__all__ = ["CLOSE", "Comparison", "Rebuilt", "rebuild_loras"]

CPU = torch.device("cpu")
CLOSE = 0.999  # cosine of the updates
LABEL_NOISE = 0.25  # of a label's standard deviation over the zoo: how far rounding may move it

Verdict = Literal["same bytes", "close", "different", "nothing stored"]


@dataclass(frozen=True)
class Comparison:
    """How near a rebuilt LoRA comes to the stored one."""

    same_bytes: bool | None  # None where no sha256 is stored
    distance: float | None = None  # None where the shard is not there
    cosine: float | None = None
    labels: Mapping[str, tuple[Any, Any]] | None = None  # target -> stored, rebuilt
    label_distance: float | None = None  # the largest, in standard deviations over the zoo

    @property
    def verdict(self) -> Verdict:
        """One word for it: "close" is cosine >= CLOSE and labels within LABEL_NOISE."""
        if self.same_bytes is None:
            return "nothing stored"
        if self.same_bytes and not self.label_distance:
            return "same bytes"
        near = self.cosine is None or self.cosine >= CLOSE
        return "close" if near and (self.label_distance or 0.0) <= LABEL_NOISE else "different"


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """A LoRA made again, its row, and the comparison with what is stored."""

    id: int
    lora: LoRA
    row: Mapping[str, Any]
    comparison: Comparison


def rebuild_loras(
    folder: str | Path,
    ids: Sequence[int],
    *,
    base: str | Path | None = None,
    data: str | Path | None = None,
    clip: str | Path | None = None,
    family: Family | None = None,
    as_built: bool = False,
    compiled: bool | None = None,
    device: str = "cpu",
) -> list[Rebuilt]:
    """Make LoRAs of a zoo again and compare them with the stored ones.

    Args:
        folder: of the zoo; recipe.json in it is enough, then there is nothing to compare with.
        ids: which; each is made alone.
        base: a folder or the name of a bundled base; by default the bundled one that the recipe names.
        data, clip: the folders of the data and of the CLIP that scored, of a zoo of published data.
        family: the family, where it is no bundled one.
        as_built: make the whole group again as it was, from the index, for the time of a group.
        compiled: use the kernels in C; by default as the build did (build.jsonl), where a C compiler works.
            In bfloat16 compiled and plain kernels part by a cosine of 0.9985 to 0.9995.
        device: what finetunes: "cpu", "cuda" or "cuda:N"; a GPU's kernels are torch's own.

    Raises:
        FileError: there is no recipe.json.
        DataError: no such id or device, or the recipe cannot be followed.
        TrainingError: the finetuning failed.
    """
    source = Source(Path(folder), usable(device))
    places = {"base": base, "data": data, "clip": clip}
    return [source.rebuild(i, places, family, as_built=as_built, compiled=compiled) for i in ids]


def nearness(stored: LoRA, made: LoRA) -> tuple[float, float]:
    """Distance and cosine of two updates of the same layers, in float64, dense: exact where both are equal."""
    gap = inner = before = after = 0.0
    for name in stored:
        a, b = (lora[name].dense().double() for lora in (stored, made))
        gap += float((a - b).square().sum())
        inner += float((a * b).sum())
        before += float(a.square().sum())
        after += float(b.square().sum())
    if before == 0 or after == 0:
        return (0.0, 1.0) if before == after else (math.inf, 0.0)
    return math.sqrt(gap / before), inner / math.sqrt(before * after)


class Source:
    """What is left of a zoo: its recipe, and its index and shards where they are there."""

    def __init__(self, folder: Path, device: torch.device = CPU) -> None:
        self.folder, self.device = folder, device
        path = folder / "recipe.json"
        if not path.is_file():
            raise FileError(
                f"Rebuilding a LoRA of {folder}: there is no recipe.json in it. Expected a zoo, or "
                "what is left of one. Try: lorascope zoo build."
            )
        self.recipe: dict[str, Any] = read_json(path)
        self.zoo: Zoo | None = open_zoo(folder) if (folder / "index.parquet").is_file() else None
        self.workers: dict[str, Any] = {}  # one base is loaded once

    @property
    def compiled(self) -> bool:
        """Whether the last build used compiled kernels; where that is not recorded, as builds do."""
        starts = [e for e in build_events(self.folder) if e.get("event") == "start"]
        return bool(starts[-1].get("compiled", True)) if starts else True

    def row(self, identity: int) -> dict[str, Any]:
        """The row of an id; without an index the id alone."""
        if self.zoo is None:
            if identity < 0 or "kind" in self.recipe:
                raise DataError(
                    f"Rebuilding LoRA {identity} of {self.folder}: without index.parquet an id is "
                    "an index of the recipe, from 0, and the recipe of a built zoo is needed."
                )
            return {"id": identity}
        found: dict[str, Any] = self.zoo.index.slice(self.zoo.row_of(identity), 1).to_pylist()[0]
        return found

    def rebuild(
        self,
        identity: int,
        places: Mapping[str, str | Path | None],
        family: Family | None,
        *,
        as_built: bool,
        compiled: bool | None,
    ) -> Rebuilt:
        """One LoRA again."""
        row = self.row(identity)
        origin = origin_of(self.recipe, row)
        made_of = family or family_of(origin.recipe, **places)
        check_recipe(made_of, origin.recipe)
        members = self.group_of(row, origin.index) if as_built else (origin.index,)
        key = str(origin.recipe)
        if key not in self.workers:
            if compiled is None or self.device.type != "cpu":
                on_cpu = self.device.type == "cpu"
                compiled = on_cpu and self.compiled and engine_of(made_of).compiles()
            engine, dtype = origin.recipe["engine"], torch_dtype(origin.recipe)
            slots, exact = int(engine["slots"]), int(engine.get("exact_steps", 0))
            self.workers[key] = start_work(made_of, dtype, compiled, slots, self.device, exact)
        made = self.workers[key](Group(0, members))
        place = members.index(origin.index)
        lora, again = made.loras[place], {**made.rows[place], "id": identity}
        return Rebuilt(identity, lora, again, self.compare(row, lora, again))

    def group_of(self, row: Mapping[str, Any], index: int) -> tuple[int, ...]:
        """The indices that trained together: those of one shard of a built zoo."""
        if self.zoo is None or "kind" in self.recipe:
            raise DataError(
                f"Rebuilding LoRA {row['id']} of {self.folder} as it was built: its group is known "
                "from the index of the zoo that was built. Try: that zoo, or without --as-built."
            )
        together = self.zoo.column("shard") == row["shard"]
        members = tuple(sorted(int(i) for i in self.zoo.column("id")[together]))
        if index not in members:
            raise TrainingError(f"Rebuilding LoRA {index}: its shard does not hold it.")
        return members

    def compare(self, row: Mapping[str, Any], lora: LoRA, again: Mapping[str, Any]) -> Comparison:
        """How near what was made comes to what is stored."""
        if self.zoo is None:
            return Comparison(None)
        same = lora_digest(lora) == row["sha256"]
        distance, cosine = self._updates(int(row["id"]), lora)
        labels = {t: (row[LABEL + t], again.get(LABEL + t)) for t in self.zoo.targets}
        apart = [self._apart(t, *pair) for t, pair in labels.items()]
        return Comparison(same, distance, cosine, labels, max(apart, default=0.0))

    def _updates(self, identity: int, lora: LoRA) -> tuple[float | None, float | None]:
        assert self.zoo is not None
        try:
            stored = self.zoo.lora(self.zoo.row_of(identity))
        except IntegrityError:
            return None, None  # the shard is not there: the sha256 and the labels still are
        if set(stored) != set(lora):
            return math.inf, 0.0
        return nearness(stored, lora)

    @cached_property
    def spreads(self) -> dict[str, float]:
        """The standard deviation over the zoo of each label that is a number."""
        assert self.zoo is not None
        spreads = {}
        for target, facts in self.zoo.targets.items():
            if facts.get("kind") == "regression":
                values = np.asarray(self.zoo.labels(target), dtype=np.float64)
                known = values[np.isfinite(values)]
                spreads[target] = float(known.std()) if known.size else 0.0
        return spreads

    def _apart(self, target: str, stored: Any, made: Any) -> float:
        """How far two labels are apart, in standard deviations; classes are the same or not."""
        if stored == made or (stored is None) != (made is None):
            return 0.0 if stored == made else math.inf
        if target not in self.spreads:
            return math.inf
        gap = abs(float(stored) - float(made))
        return gap / self.spreads[target] if self.spreads[target] > 0 else math.inf
