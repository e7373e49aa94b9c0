"""What a predictor knows about itself, measured on the zoos of the collection: one JSON file for each.

    probabilities   calibration error on the test LoRAs before and after
    intervals       share of labels inside, of the test LoRAs and over 50 divisions of held-out groups
    risk            error against how many are answered (`trust_risk`)
    outliers        area under the ROC curve and share beyond the limit, of each kind (`trust_outliers`)

The first three of one fit of the default model on all targets a seed, the last of detectors alone on more
splits. A file is named by the digests of all zoos that it was measured on and the versions of lorascope, torch
and peft; a seed or a split that is in it is not measured again. What it is not: the page, which `trust_page`
makes of the files.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lorascope.bench.record import Asked
from lorascope.bench.suites import FACES, LLAMA, OBJECTS, QWEN, SHIFTS, Suite
from lorascope.bench.tasks import ZooFacts, base_values, tasks_of
from lorascope.bench.trust_methods import BASES, adapters, peft_version
from lorascope.bench.trust_outliers import examine_split, too_few
from lorascope.bench.trust_risk import Part, risks
from lorascope.core.batch import LoRABatch
from lorascope.errors import IntegrityError, LorascopeError, MissingExtraError
from lorascope.io.shards import open_zoo
from lorascope.models.build import build_model
from lorascope.predict.calibration import ProbabilityMap
from lorascope.predict.predictor import Predictor
from lorascope.predict.versions import versions
from lorascope.train.data import LabelledLoRAs
from lorascope.train.fit import default_split, fit_many
from lorascope.train.splits import Split

__all__ = ["CONTROL", "DORA", "SECOND", "SPLITS", "TRUST", "examine", "kind_of", "measure", "read"]

MODEL = "fusion"
SCHEMA = "lorascope.bench-trust/2"
SPLITS = 3  # that outliers are examined on
SECOND, CONTROL, DORA = "second version of the base", "base of another seed", "DoRA"
OTHER_BASE, OTHER_DATA = "another base", "other data, same base"
ENDINGS = {"-second": SECOND, "-control": CONTROL, "-dora": DORA}

#: The zoos that are examined, each with those that a predictor of it is asked about.
TRUST = Suite(
    "trust",
    (MODEL,),
    (FACES, OBJECTS, QWEN, LLAMA),
    {
        FACES: (*SHIFTS[FACES], OBJECTS),
        OBJECTS: ("faces-control", FACES),
        QWEN: (*SHIFTS[QWEN], LLAMA),
        LLAMA: (*SHIFTS[LLAMA], QWEN),
    },
    seeds=(0,),
)

Record = dict[str, Any]
Note = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Read:
    """A zoo, the others that are asked about by name, and why the rest are not."""

    data: LabelledLoRAs
    parts: Mapping[str, Part]
    left_out: Mapping[str, str]


def examine(
    asked: Asked,
    folder: Path,
    seeds: int = 1,
    note: Note | None = None,
    *,
    splits: int = SPLITS,
) -> list[Record]:
    """The record of every zoo that was asked for, measured where it is not in the folder yet.

    Raises IntegrityError for a damaged record, and as `fit_many`.
    """
    say = note or (lambda line: None)
    records = []
    for zoo in asked.suite.zoos:
        record, path = _record(asked, zoo), folder / f"{zoo}-{_key(asked, zoo)}.json"
        if path.is_file():
            record |= _load(path)
        todo = [str(seed) for seed in range(seeds) if str(seed) not in record["seeds"]]
        open_splits = [str(x) for x in range(splits) if str(x) not in record["splits"]]
        if todo or open_splits:
            home = read(asked, zoo)
            made, without = _by_other_methods(asked.zoos[zoo], home, folder, say)
            record["left_out"] = {**home.left_out, **without}
            others = {
                name: (kind_of(asked.zoos[zoo], asked.zoos[name]), part.data.batch)
                for name, part in home.parts.items()
            }
        else:
            say(f"{zoo}: measured before")
        for seed in open_splits:
            say(f"{zoo}, split {seed}: outliers")
            record["splits"][seed] = examine_split(zoo, home.data, others, made, int(seed))
            _save(path, record)
        for seed in todo:
            record["seeds"][seed] = measure(asked, zoo, int(seed), say, home)
            _save(path, record)
        records.append(record)
    return records


def measure(
    asked: Asked, zoo: str, seed: int, note: Note | None = None, home: Read | None = None
) -> dict[str, Any]:
    """All measures of one fit on one zoo, as plain data.

    Raises DataError for a zoo with too few LoRAs to learn what tells outliers, and as `fit_many`.
    """
    say = note or (lambda line: None)
    home = home or read(asked, zoo)
    began = time.process_time()
    data = home.data
    split = default_split(data, seed)
    say(f"{zoo}, seed {seed}: learning {len(data.targets)} targets from {len(data):,} LoRAs")
    predictors = fit_many(data, model=MODEL, seed=seed, split=split, trust=True)
    if next(iter(predictors.values())).trust.outliers is None:
        raise too_few(zoo, split)
    learned = time.process_time() - began
    say(f"{zoo}, seed {seed}: risk and coverage, after {learned:.0f} CPU seconds")
    mixed = {"test": Part(data.select(split.test), {})} | {
        kind: part
        for name, part in home.parts.items()
        if (kind := kind_of(asked.zoos[zoo], asked.zoos[name])) in (SECOND, CONTROL)
        and asked.zoos[name].family == asked.zoos[zoo].family
    }
    return {
        "rows": dict(zip(("train", "validation", "test"), map(len, split.parts()), strict=True)),
        "probabilities": _probabilities(predictors),
        "intervals": _intervals(predictors),
        "risk": risks(predictors, mixed, _deviations(data, split), seed),
        "fit_seconds": round(learned, 1),
        "seconds": round(time.process_time() - began, 1),
    }


def read(asked: Asked, zoo: str) -> Read:
    """A zoo with the others that a model of it reads, and why it does not read the rest."""
    data, base = _zoo(asked.zoos[zoo])
    model = build_model(MODEL, data.batch.signature, 1, rank=max(1, data.batch.rank))
    parts, left_out = {}, {}
    for name in asked.suite.shifts.get(zoo, ()):
        other, values = _zoo(asked.zoos[name])
        try:
            model.check(other.batch)
        except LorascopeError as error:
            left_out[name] = str(error)
            continue
        parts[name] = Part(
            other, {k: values[k] - value for k, value in base.items() if k in values}
        )
    return Read(data, parts, left_out)


def kind_of(zoo: ZooFacts, other: ZooFacts) -> str:
    """What LoRAs of another zoo are to a predictor of a zoo, by their names, bases and families.

    >>> kind_of(faces, faces_rank_2)  # doctest: +SKIP
    'trained at rank 2'
    """
    for ending, kind in ENDINGS.items():
        if other.name.endswith(ending):
            return kind
    if "-rank-" in other.name:
        return f"trained at rank {other.name.rsplit('-', 1)[1]}"
    if other.base != zoo.base:
        return OTHER_BASE
    return OTHER_DATA if other.family != zoo.family else other.name


def _zoo(facts: ZooFacts) -> tuple[LabelledLoRAs, dict[str, float]]:
    zoo = open_zoo(facts.folder)
    return tasks_of(zoo, name=facts.name), base_values(zoo)


def _by_other_methods(
    facts: ZooFacts, home: Read, folder: Path, say: Note
) -> tuple[dict[str, LoRABatch], dict[str, str]]:
    """Adapters by other methods of a bundled base of the exam, or why there are none."""
    if facts.family != "exam" or facts.base not in BASES:
        return {}, {}
    batch = home.data.batch
    try:
        made = adapters(facts.base, batch.signature, batch.rank, folder / "methods", note=say)
    except MissingExtraError as error:
        return {}, {"adapters by other methods": str(error)}
    return made, {}


def _probabilities(predictors: Mapping[str, Predictor]) -> list[dict[str, Any]]:
    rows = []
    for name, predictor in predictors.items():
        if found := predictor.report["trust"].get("calibration_error"):
            same = ProbabilityMap.identity(predictor.target.out_features)
            kept = predictor.trust.probabilities != same
            rows.append(
                {"target": name, "kind": predictor.target.kind, **_rounded(found), "kept": kept}
            )
    return rows


def _intervals(predictors: Mapping[str, Predictor]) -> list[dict[str, Any]]:
    """Coverage, of the test LoRAs and over the divisions, of those that have an interval and enough groups."""
    rows = []
    for name, predictor in predictors.items():
        target = predictor.target
        interval = predictor.report["trust"].get("interval", {})
        if found := interval.get("divisions"):
            metric = {"metric": target.metric, "score": predictor.held_out.get(target.metric)}
            row = _rounded({**found, **metric, "inside": interval["inside"]})
            rows.append({"target": name, "kind": target.kind, **row})
    return rows


def _deviations(data: LabelledLoRAs, split: Split) -> dict[str, float]:
    """Of the training labels of value targets."""
    found = {}
    for name, target in data.targets.items():
        if target.kind == "regression":
            found[name] = float(np.nanstd(data.labels[name][split.train])) or 1.0
    return found


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(x, 6) if isinstance(x, float) else x for key, x in row.items()}


def _record(asked: Asked, zoo: str) -> Record:
    """What a record says of the zoos that it was measured on; folders stay out of it."""
    names = (zoo, *asked.suite.shifts.get(zoo, ()))
    fields = ("name", "digest", "loras", "numbers", "family", "base")
    facts = {name: {key: getattr(asked.zoos[name], key) for key in fields} for name in names}
    return {
        "schema": SCHEMA,
        "zoo": facts.pop(zoo),
        "others": facts,
        "model": MODEL,
        "versions": versions() | {"peft": peft_version()},
        "left_out": {},
        "seeds": {},
        "splits": {},
    }


def _key(asked: Asked, zoo: str) -> str:
    """What names a record: all that it depends on but seeds and splits."""
    text = json.dumps(_record(asked, zoo), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _load(path: Path) -> Record:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema"] != SCHEMA:
            raise ValueError(f"schema {record['schema']!r}, expected {SCHEMA!r}")
        if not all(isinstance(record[key], dict) for key in ("left_out", "seeds", "splits")):
            raise ValueError("seeds and splits are no tables")
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"Reading {path}: the record is damaged ({error}). Remove the file to measure it again."
        ) from error
    return dict(record)


def _save(path: Path, record: Record) -> None:
    """Write a record, replacing an older one in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    staged.replace(path)
