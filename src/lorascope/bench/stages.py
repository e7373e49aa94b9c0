"""The stages of a suite as lists of jobs, and what they are expected to cost.

    tune -> score -> sizes, kinds        each stage is decided by the runs of those before it

A record may hold more runs than a suite asks for: of zoos before they grew, of methods before they changed, of
other terms. Whoever counts, chooses or reports takes `asked_runs` alone.

Before a stage has run, a plan counts one trial a method, of the mean cost of all, and, as leaders, methods from
the dearest to the cheapest at even steps; kinds of target that choose different trials add runs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from lorascope.bench.choice import chosen_trials, leaders, option_key, trials_of
from lorascope.bench.jobs import OWN_BASE, Job, Run, Stage
from lorascope.bench.methods import METHODS
from lorascope.bench.record import Asked
from lorascope.bench.tasks import NOT_BUILT

__all__ = [
    "STAGES",
    "PlanLine",
    "asked_runs",
    "expected_seconds",
    "jobs_of",
    "plan_lines",
    "plan_text",
]

STAGES: tuple[Stage, ...] = get_args(Stage)
LEARNED = 0.8  # of a zoo's LoRAs are learned from; the others are tested


def jobs_of(asked: Asked, stage: Stage, runs: Sequence[Run]) -> list[Job]:
    """The jobs of a stage, the longest of each zoo first."""
    jobs = {"tune": _tune, "score": _score, "sizes": _sizes, "kinds": _kinds}[stage](asked, runs)
    order = list(asked.zoos)
    return sorted(jobs, key=lambda job: (order.index(job.zoo), -cost(job, asked)))


def asked_runs(asked: Asked, runs: Sequence[Run]) -> list[Run]:
    """The runs of a record that the suite asks for, stage by stage, in the order of the record."""
    found: list[Run] = []
    for stage in STAGES:
        keys = {asked.key(job) for job in jobs_of(asked, stage, found)}
        found += [run for run in runs if run.key in keys]
    return found


def _tune(asked: Asked, runs: Sequence[Run]) -> list[Job]:
    suite = asked.suite
    return [
        Job("tune", zoo, method, suite.seeds[0], options, suite.tuning_loras, ("validation",))
        for zoo in suite.zoos
        for method in suite.methods
        if len(trials_of(asked, method)) > 1
        for options in trials_of(asked, method)
    ]


def _score(asked: Asked, runs: Sequence[Run]) -> list[Job]:
    suite = asked.suite
    jobs = []
    for zoo in suite.zoos:
        sets = ("validation", "test", *suite.alterations, *suite.shifts.get(zoo, ()))
        for method in suite.methods:
            jobs += _chosen(asked, runs, zoo, method, stage="score", sets=sets)
    return jobs


def _sizes(asked: Asked, runs: Sequence[Run]) -> list[Job]:
    suite = asked.suite
    jobs = []
    for zoo in suite.zoos:
        most = LEARNED * asked.zoos[zoo].loras
        for count in [size for size in suite.sizes if size < most]:
            for method in _compared(asked, zoo, runs):
                sets = ("validation", "test")
                jobs += _chosen(asked, runs, zoo, method, stage="sizes", loras=count, sets=sets)
    return jobs


def _kinds(asked: Asked, runs: Sequence[Run]) -> list[Job]:
    jobs = []
    for zoo, parent in asked.suite.kinds.items():
        for method in _compared(asked, parent, runs):
            sets = ("validation", "test")
            jobs += _chosen(asked, runs, parent, method, stage="kinds", zoo=zoo, sets=sets)
    return jobs


def _compared(asked: Asked, zoo: str, runs: Sequence[Run]) -> list[str]:
    """The controls and the leaders of a zoo."""
    suite = asked.suite
    controls = [name for name in suite.methods if METHODS[name].control]
    if any(run.stage == "score" and run.zoo == zoo for run in runs):
        return [*controls, *leaders(asked, zoo, runs)]
    facts = asked.zoos[zoo]
    others = [name for name in suite.methods if not METHODS[name].control]
    others.sort(key=lambda name: -METHODS[name].mean_seconds(1000, facts.numbers))
    places = np.linspace(0, len(others) - 1, min(suite.leaders, len(others))).round()
    return [*controls, *(others[int(place)] for place in places)]


def _chosen(
    asked: Asked, runs: Sequence[Run], tuned_on: str, method: str, *, zoo: str = "", **fields: Any
) -> list[Job]:
    """A job for each seed and each trial that was chosen for a kind of target."""
    chosen = chosen_trials(asked, tuned_on, method, runs)
    distinct = {option_key(options): options for options in chosen.values()}
    return [
        Job(zoo=zoo or tuned_on, method=method, seed=seed, options=options, **fields)
        for options in distinct.values()
        for seed in asked.suite.seeds
    ]


def cost(job: Job, asked: Asked, *, tuned: bool = True) -> float:
    """The expected seconds of a job, by the table of methods: learning, and predicting the other zoos.

    Where the trial is still to be chosen, not `tuned`, the mean of all counts.
    """
    facts, method = asked.zoos[job.zoo], METHODS[job.method]
    learned = LEARNED * facts.loras
    count = learned if job.loras is None else min(job.loras, learned)
    read = 1.0 * sum(asked.zoos[name].loras for name in job.sets if name in asked.zoos)
    read += sum(name not in asked.zoos for name in job.sets) * 0.2 * facts.loras
    # a training goes over its LoRAs some forty times, both ways
    once = method.steps * read / 1000 / 20
    factor = method.factor(job.options) if tuned else method.mean_factor
    return (method.seconds(int(count), facts.numbers) + once) * factor + 0.3


def expected_seconds(jobs: Iterable[Job], asked: Asked, runs: Sequence[Run]) -> float:
    """The expected seconds of some jobs, by what runs of the same method took so far."""
    spent: dict[str, list[float]] = {}
    for run in runs:
        if run.error is None and run.zoo in asked.zoos:
            sets = tuple(name for name in run.scores if not name.endswith(OWN_BASE))
            job = Job(run.stage, run.zoo, run.method, run.seed, run.options, run.loras, sets)
            spent.setdefault(run.method, []).append(run.all_seconds / cost(job, asked))
    chosen = {(run.zoo, run.method) for run in runs if run.stage == "tune"}

    def expected(job: Job) -> float:
        place = asked.suite.kinds.get(job.zoo, job.zoo), job.method
        known = job.stage == "tune" or place in chosen
        return ratio.get(job.method, 1.0) * cost(job, asked, tuned=known)

    ratio = {name: sum(found) / len(found) for name, found in spent.items()}
    return sum(map(expected, jobs))


@dataclass(frozen=True)
class PlanLine:
    """The runs of one stage on one zoo: how many, how many are done, and the hours of one core to come."""

    stage: Stage
    zoo: str
    runs: int
    done: int
    hours: float


def plan_lines(asked: Asked, runs: Sequence[Run]) -> list[PlanLine]:
    """What a suite comes to, stage by stage and zoo by zoo, with these runs of it made."""
    made = {run.key for run in runs if run.error is None}
    lines = []
    for stage in STAGES:
        by_zoo: dict[str, list[Job]] = {}
        for job in jobs_of(asked, stage, runs):
            by_zoo.setdefault(job.zoo, []).append(job)
        for zoo, jobs in by_zoo.items():
            left = [job for job in jobs if asked.key(job) not in made]
            hours = expected_seconds(left, asked, runs) / 3600
            lines.append(PlanLine(stage, zoo, len(jobs), len(jobs) - len(left), hours))
    return lines


def plan_text(asked: Asked, runs: Sequence[Run], budget_hours: float) -> str:
    """The plan in words, with its hours against the budget, for a record's runs."""
    runs = asked_runs(asked, runs)
    lines = plan_lines(asked, runs)
    spent = sum(run.all_seconds for run in runs) / 3600
    left = sum(line.hours for line in lines)
    suite = asked.suite
    told = [
        f"suite {suite.name}: {len(suite.methods)} methods, {suite.trials} trials on one seed and at most "
        f"{suite.tuning_loras:,} LoRAs, {len(suite.seeds)} scoring seeds",
        f"{'stage':<7}{'zoo':<22}{'LoRAs':>7}{'runs':>7}{'done':>7}{'CPU-hours to come':>20}",
    ]
    told += [
        f"{line.stage:<7}{line.zoo:<22}{asked.zoos[line.zoo].loras:>7}{line.runs:>7}{line.done:>7}"
        f"{line.hours:>20.2f}"
        for line in lines
    ]
    count, done = sum(line.runs for line in lines), sum(line.done for line in lines)
    told.append(f"{'all':<36}{count:>7}{done:>7}{left:>20.2f}")
    fits = "within" if spent + left <= budget_hours else "MORE THAN"
    told.append(
        f"spent {spent:.2f}, to come {left:.2f} CPU-hours: {fits} the budget of {budget_hours:g}"
    )
    if unbuilt := [name for name, facts in asked.zoos.items() if facts.digest == NOT_BUILT]:
        told.append(f"not built yet, taken to be as large as they will be: {', '.join(unbuilt)}")
    if asked.missing:
        told.append(f"left out, since their zoos are not there: {', '.join(asked.missing)}")
    return "\n".join(told)
