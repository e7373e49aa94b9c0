"""The record of a benchmark: one JSON line per run, and a plan beside it that says what was asked.

    plan.json       source, digest of the data, targets, models, seeds, ceilings of the labels
    results.jsonl   one `Result` a line, appended and synced when its run ends

A run is named by the digest of its data, target, model, seed and the version of lorascope; one that is in
the record is not run again. A last line that was cut off by a kill is dropped.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lorascope.bench.lines import append_lines, read_lines
from lorascope.errors import FileError, IntegrityError
from lorascope.predict.target import Target

RESULTS = "results.jsonl"
PLAN = "plan.json"

Key = tuple[str, str, str, int, str]


@dataclass(frozen=True)
class Result:
    """One run: a model or control, trained with one seed for one target, scored on its test rows.

    `data` is a digest of the LoRAs, groups and labels; `metrics` and `validation` hold None where a score
    does not exist; `error` says why a run has no scores.
    """

    data: str
    target: str
    model: str
    seed: int
    control: bool = False
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    validation: Mapping[str, float | None] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    parameters: int = 0
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None

    @property
    def key(self) -> Key:
        """What names the run."""
        version = self.versions.get("lorascope", "")
        return self.data, self.target, self.model, self.seed, version

    def to_line(self) -> str:
        """The line of the record, with its newline."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Result":
        """A result from a line's data; keys that are not known are left out."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})


@dataclass(frozen=True)
class Plan:
    """What a benchmark was asked, and what its table needs beside the results."""

    source: str
    data: Mapping[str, str]  # target -> digest
    loras: int
    targets: tuple[Target, ...]
    models: tuple[str, ...]
    controls: tuple[str, ...]
    seeds: tuple[int, ...]
    ceilings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write `plan.json`, replacing an older one in one step."""
        folder.mkdir(parents=True, exist_ok=True)
        data = asdict(self) | {"targets": [target.to_json() for target in self.targets]}
        staged = folder / f".{PLAN}.{os.getpid()}"
        staged.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        staged.replace(folder / PLAN)


def load_plan(folder: Path) -> Plan:
    """The plan of a benchmark's folder; raises FileError when there is none."""
    path = folder / PLAN
    if not path.is_file():
        raise FileError(
            f"Reading the benchmark {folder}: there is no {PLAN} in it. Try: lorascope bench run, which "
            "writes one."
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Plan(
            source=data["source"],
            data=data["data"],
            loras=data["loras"],
            targets=tuple(Target.from_json(target) for target in data["targets"]),
            models=tuple(data["models"]),
            controls=tuple(data["controls"]),
            seeds=tuple(data["seeds"]),
            ceilings=data["ceilings"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"Reading the benchmark {folder}: {PLAN} is damaged ({error})."
        ) from error


def load_results(folder: Path) -> list[Result]:
    """All results in the record, in the order in which they ended; an unfinished last line is left out.

    Raises IntegrityError for a damaged line before the last.
    """
    return read_lines(folder / RESULTS, Result.from_json)


def append_results(folder: Path, results: Iterable[Result]) -> None:
    """Add results to the record and sync it; a line that a kill cut off is removed first."""
    append_lines(folder / RESULTS, (result.to_line() for result in results))
