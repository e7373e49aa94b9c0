"""The folder of a suite's results: what was asked, and one JSON line per run.

    suite.json   the suite, the zoos that it was run on with their facts, what was missing, the terms of the
                 code that asked
    runs.jsonl   one `Run` a line, appended and synced when it ends

A last line that a kill cut off is dropped. Of several runs of one key the last counts.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lorascope.bench.jobs import Job, Run
from lorascope.bench.lines import append_lines, read_lines
from lorascope.bench.methods import METHODS
from lorascope.bench.suites import Suite
from lorascope.bench.tasks import ZooFacts
from lorascope.bench.terms import Terms, terms_of
from lorascope.errors import DataError, FileError, IntegrityError

__all__ = ["SUITE", "Asked", "append_run", "load_asked", "load_runs"]

SUITE, RUNS = "suite.json", "runs.jsonl"


@dataclass(frozen=True)
class Asked:
    """A suite cut down to the zoos that are there: their facts, the names of the others, and its terms."""

    suite: Suite
    zoos: Mapping[str, ZooFacts]
    missing: tuple[str, ...]
    terms: Terms

    @classmethod
    def now(
        cls, suite: Suite, zoos: Mapping[str, ZooFacts], missing: tuple[str, ...] = ()
    ) -> "Asked":
        """A suite on the terms of this code."""
        return cls(suite, zoos, missing, terms_of(suite.methods))

    def key(self, job: Job) -> str:
        """What names the run of a job."""
        return job.key(self.digests, self.terms)

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each zoo."""
        return {name: facts.digest for name, facts in self.zoos.items()}

    @property
    def folders(self) -> dict[str, str]:
        """The folder of each zoo."""
        return {name: facts.folder for name, facts in self.zoos.items()}

    def save(self, folder: Path) -> None:
        """Write `suite.json`, replacing an older one in one step. Folders of zoos stay out of it."""
        folder.mkdir(parents=True, exist_ok=True)
        zoos = {name: asdict(replace(facts, folder="")) for name, facts in self.zoos.items()}
        data = {"suite": asdict(self.suite), "zoos": zoos, "missing": list(self.missing)}
        data["terms"] = asdict(self.terms)
        staged = folder / f".{SUITE}.{os.getpid()}"
        text = json.dumps(data, indent=1, ensure_ascii=False)
        staged.write_text(text + "\n", encoding="utf-8")
        staged.replace(folder / SUITE)


def load_asked(folder: Path) -> Asked:
    """What a folder's suite was asked.

    Raises FileError when there is none, IntegrityError when damaged, DataError when it has methods that this
    lorascope has not.
    """
    path = folder / SUITE
    if not path.is_file():
        raise FileError(
            f"Reading the benchmark {folder}: there is no {SUITE} in it. Try: lorascope bench run --suite "
            "small, which writes one."
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        zoos = {name: ZooFacts(**facts) for name, facts in data["zoos"].items()}
        terms = Terms.from_json(data["terms"])
        asked = Asked(_suite(data["suite"]), zoos, tuple(data["missing"]), terms)
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"Reading the benchmark {folder}: {SUITE} is damaged ({error})."
        ) from error
    if unknown := [name for name in asked.suite.methods if name not in METHODS]:
        raise DataError(
            f"Reading the benchmark {folder}: it was run with the method {unknown[0]!r}, expected one of "
            f"{', '.join(METHODS)}. Try: the lorascope that wrote it, {terms.version}."
        )
    return asked


def _suite(data: Mapping[str, Any]) -> Suite:
    """A suite from plain data: lists are tuples again."""
    fields: dict[str, Any] = {
        key: tuple(x) if isinstance(x, list) else x for key, x in data.items()
    }
    fields["shifts"] = {name: tuple(zoos) for name, zoos in data["shifts"].items()}
    return Suite(**fields)


def load_runs(folder: Path) -> list[Run]:
    """All runs in the record, the last of each key, in the order in which they ended.

    Raises IntegrityError for a damaged line before the last.
    """
    runs: dict[str, Run] = {}
    for run in read_lines(folder / RUNS, Run.from_json):
        runs.pop(run.key, None)
        runs[run.key] = run
    return list(runs.values())


def append_run(folder: Path, run: Run) -> None:
    """Add a run to the record and sync it; a line that a kill cut off is removed first."""
    append_lines(folder / RUNS, [run.to_line()])
