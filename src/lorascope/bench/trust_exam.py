"""What a predictor knows about itself, measured on the zoos of the collection: one JSON file for each.

    probabilities   calibration error on the test LoRAs before and after
    intervals       share of labels inside, of the test LoRAs and over 50 divisions of held-out groups
    outliers        area under the ROC curve and share beyond the limit, of each kind
    risk            error against how many are answered (`trust_risk`)

All of one fit of the default model on all targets with one split a seed. A file is named by the digests of all
zoos that it was measured on and the versions of lorascope and torch; a seed that is in it is not measured
again. What it is not: the page, which `trust_page` makes of the files.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from lorascope.bench.record import Asked
from lorascope.bench.suites import FACES, LLAMA, OBJECTS, QWEN, SHIFTS, Suite
from lorascope.bench.tasks import ZooFacts, base_values, tasks_of
from lorascope.bench.trust_risk import Part, risks
from lorascope.errors import DataError, IntegrityError, LorascopeError
from lorascope.io.shards import open_zoo
from lorascope.predict.calibration import ProbabilityMap
from lorascope.predict.predictor import Predictor
from lorascope.predict.trust import Trust, kinds_beside
from lorascope.predict.versions import versions
from lorascope.train.data import LabelledLoRAs
from lorascope.train.fit import default_split, fit_many
from lorascope.train.outlier_exam import ExamRow, examine_outliers
from lorascope.train.splits import Split

__all__ = ["CONTROL", "DORA", "PAIRS", "SECOND", "TRUST", "examine", "kind_of", "measure"]

MODEL = "fusion"
SCHEMA = "lorascope.bench-trust/1"
SECOND, CONTROL, DORA = "second version of the base", "base of another seed", "DoRA"
OTHER_BASE, OTHER_DATA = "another base", "other data, same base"
PAIRS = ", by its pairs alone"
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


def examine(asked: Asked, folder: Path, seeds: int = 1, note: Note | None = None) -> list[Record]:
    """The record of every zoo that was asked for, measured where it is not in the folder yet.

    Raises IntegrityError for a damaged record, and as `fit_many`.
    """
    say = note or (lambda line: None)
    records = []
    for zoo in asked.suite.zoos:
        record, path = _record(asked, zoo), folder / f"{zoo}-{_key(asked, zoo)}.json"
        if path.is_file():
            record["seeds"] = _load(path)["seeds"]
        for seed in range(seeds):
            if str(seed) in record["seeds"]:
                say(f"{zoo}, seed {seed}: measured before")
                continue
            record["seeds"][str(seed)] = measure(asked, zoo, seed, say)
            _save(path, record)
        records.append(record)
    return records


def measure(asked: Asked, zoo: str, seed: int, note: Note | None = None) -> dict[str, Any]:
    """All measures of one zoo and one seed, as plain data.

    Raises DataError for a zoo with too few LoRAs to learn what tells outliers, and as `fit_many`.
    """
    say = note or (lambda line: None)
    began = time.process_time()
    data, base = _zoo(asked.zoos[zoo])
    split = default_split(data, seed)
    say(f"{zoo}, seed {seed}: learning {len(data.targets)} targets from {len(data):,} LoRAs")
    predictors = fit_many(data, model=MODEL, seed=seed, split=split, trust=True)
    trust = next(iter(predictors.values())).trust
    if trust.outliers is None:
        raise DataError(
            f"Examining the trust of {zoo}: found {len(split.validation)} LoRAs to validate and "
            f"{len(split.train)} to learn from, expected at least 20 of each. Try a larger zoo."
        )
    learned = time.process_time() - began
    test = data.select(split.test)
    say(f"{zoo}, seed {seed}: outliers, after {learned:.0f} CPU seconds")
    parts, left_out = _others(asked, zoo, base, predictors)
    outliers = _outliers(asked, zoo, trust, test, parts, seed)
    say(f"{zoo}, seed {seed}: risk and coverage")
    mixed = {"test": Part(test, {})} | {
        kind: part
        for name, part in parts.items()
        if (kind := kind_of(asked.zoos[zoo], asked.zoos[name])) in (SECOND, CONTROL)
        and asked.zoos[name].family == asked.zoos[zoo].family
    }
    return {
        "rows": dict(zip(("train", "validation", "test"), map(len, split.parts()), strict=True)),
        "probabilities": _probabilities(predictors),
        "intervals": _intervals(predictors),
        "outliers": outliers,
        "left_out": left_out,
        "risk": risks(predictors, mixed, _deviations(data, split), seed),
        "fit_seconds": round(learned, 1),
        "seconds": round(time.process_time() - began, 1),
    }


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


def _others(
    asked: Asked, zoo: str, base: Mapping[str, float], predictors: Mapping[str, Predictor]
) -> tuple[dict[str, Part], dict[str, str]]:
    """The other zoos that a predictor reads, and why it does not read the rest."""
    parts, left_out = {}, {}
    for name in asked.suite.shifts.get(zoo, ()):
        data, other = _zoo(asked.zoos[name])
        try:
            for predictor in predictors.values():
                predictor.model.check(data.batch)
        except LorascopeError as error:
            left_out[name] = str(error)
            continue
        parts[name] = Part(data, {k: other[k] - value for k, value in base.items() if k in other})
    return parts, left_out


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


def _outliers(
    asked: Asked,
    zoo: str,
    trust: Trust,
    test: LabelledLoRAs,
    parts: Mapping[str, Part],
    seed: int,
) -> list[dict[str, Any]]:
    """A row of each kind: by the pairs, and as `predict` judges where side tensors decide."""
    if trust.outliers is None:
        return []
    batches = {name: part.data.batch for name, part in parts.items()}
    rows = []
    for row in examine_outliers(trust.outliers, test.batch, batches, seed):
        if row.kind not in parts:
            rows.append(_plain(row, row.kind, None))
            continue
        kind = kind_of(asked.zoos[zoo], asked.zoos[row.kind])
        if any(_beside(trust, kinds) for kinds in kinds_beside(batches[row.kind])):
            rows.append(_plain(row, kind + PAIRS, row.kind))
            row = _judged(trust, row.kind, test, parts[row.kind].data)
        rows.append(_plain(row, kind, row.kind))
    return rows


def _beside(trust: Trust, kinds: set[str]) -> bool:
    """Whether side tensors, or that there are none, put a LoRA beyond the limit."""
    unknown = set() if trust.side is None else kinds - set(trust.side)
    return bool(unknown or set(trust.always) - kinds)


def _judged(trust: Trust, name: str, test: LabelledLoRAs, other: LabelledLoRAs) -> ExamRow:
    """Scores as `predict` gives them, with the rule of side tensors."""
    usual, scores = (
        np.array([v.score for v in trust.verdicts(of.batch) if v is not None])
        for of in (test, other)
    )
    truth = np.repeat([0, 1], [len(usual), len(scores)])
    area = float(roc_auc_score(truth, np.concatenate([usual, scores])))
    return ExamRow(name, len(scores), area, float((scores > 1).mean()))


def _plain(row: ExamRow, kind: str, zoo: str | None) -> dict[str, Any]:
    return _rounded(asdict(row)) | {"kind": kind, "zoo": zoo}


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
        "versions": versions(),
        "seeds": {},
    }


def _key(asked: Asked, zoo: str) -> str:
    """What names a record: all that it depends on but the seeds."""
    text = json.dumps(_record(asked, zoo), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _load(path: Path) -> Record:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema"] != SCHEMA or not isinstance(record["seeds"], dict):
            raise ValueError(f"schema {record['schema']!r}, expected {SCHEMA!r}")
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
