"""What earlier runs decide: the trial of each method, and the leaders of each zoo.

trial    of a method on a zoo, one for its values and one for its classes: the smallest mean over the
         targets of that kind of the loss on validation rows, 1 - R^2 but at most 1, or the log loss
leaders  the methods of smallest mean place over the columns of a zoo's table
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lorascope.bench.jobs import Run
from lorascope.bench.methods import METHODS
from lorascope.bench.record import Asked
from lorascope.bench.tasks import MERGED, ZooFacts
from lorascope.train.metrics import LOWER_IS_BETTER, WATCHED

__all__ = ["by_seed", "chosen_trials", "columns_of", "leaders", "option_key", "trials_of"]

Options = Mapping[str, Any]
VALUES, CLASSES = "values", "classes"


def option_key(options: Options) -> str:
    """Options as text, to compare them."""
    return repr(sorted(options.items()))


def kind_of(target: Mapping[str, Any]) -> str:
    """Whether a target is a value or classes."""
    return VALUES if target["kind"] == "regression" else CLASSES


def kinds_of(facts: ZooFacts) -> tuple[str, ...]:
    """The kinds of target that a zoo has."""
    found = {kind_of(target) for target in facts.targets.values()}
    return tuple(kind for kind in (VALUES, CLASSES) if kind in found)


def trials_of(asked: Asked, method: str) -> tuple[Options, ...]:
    """The trials of a method in a suite."""
    return asked.terms.trials[method][: asked.suite.trials]


def chosen_trials(asked: Asked, zoo: str, method: str, runs: Iterable[Run]) -> dict[str, Options]:
    """For each kind of target the trial with the smallest loss; the first where nothing was tried."""
    trials, facts = trials_of(asked, method), asked.zoos[zoo]
    losses = {
        option_key(run.options): run.scores.get("validation", {})
        for run in runs
        if (run.stage, run.zoo, run.method) == ("tune", facts.name, method) and run.error is None
    }
    chosen: dict[str, Options] = {}
    for kind in kinds_of(facts):
        names = [name for name, target in facts.targets.items() if kind_of(target) == kind]
        found = [_mean_loss(losses.get(option_key(trial), {}), facts, names) for trial in trials]
        best = int(np.nanargmin(found)) if not all(map(math.isnan, found)) else 0
        chosen[kind] = trials[best]
    return chosen


def _mean_loss(
    scores: Mapping[str, Mapping[str, float | None]], facts: ZooFacts, names: Sequence[str]
) -> float:
    """The mean over targets of the loss, of values as 1 - R^2, at most 1; NaN where one is missing.

    Where nothing can be learned 1 - R^2 is 1 and above, by as much as a trial fits noise: unbounded, that one
    target would choose for all. A choice for each target apart would mean a training for every trial that some
    target chooses: up to four times the runs of the longest stage.
    """
    losses = []
    for name in names:
        target = facts.targets[name]
        of = scores.get(name, {})
        metric = "r2" if target["kind"] == "regression" else WATCHED[target["kind"]]
        value = of.get(metric)
        loss = math.nan if value is None else min(1.0, 1 - value) if metric == "r2" else value
        losses.append(loss)
    return float(np.mean(losses)) if losses else math.nan


def columns_of(facts: ZooFacts) -> dict[str, tuple[str, ...]]:
    """The columns of a zoo's table and the targets in each."""
    merged = {target: column for column, targets in MERGED.items() for target in targets}
    columns: dict[str, tuple[str, ...]] = {}
    for target in facts.targets:
        column = merged.get(target, target)
        columns[column] = (*columns.get(column, ()), target)
    return columns


def by_seed(
    runs: Iterable[Run],
    facts: ZooFacts,
    column: str,
    *,
    chosen: Mapping[str, Options],
    set_name: str = "test",
) -> dict[int, float]:
    """Score of a column by seed, from runs of one method, stage and number of LoRAs.

    Each target is read from the run of the trial that was chosen for its kind.
    """
    targets = columns_of(facts)[column]
    first = facts.targets[targets[0]]
    wanted = option_key(chosen.get(kind_of(first), {}))
    found: dict[int, float] = {}
    for run in runs:
        if option_key(run.options) != wanted or set_name not in run.scores:
            continue
        of = run.scores[set_name]
        values = [of.get(t, {}).get(facts.targets[t]["metric"]) for t in targets]
        if all(value is not None for value in values):
            found[run.seed] = float(np.mean([v for v in values if v is not None]))
    return found


def leaders(asked: Asked, zoo: str, runs: Sequence[Run]) -> tuple[str, ...]:
    """The methods, controls apart, of smallest mean place over the columns of a zoo's table."""
    suite, facts = asked.suite, asked.zoos[zoo]
    names = [name for name in suite.methods if not METHODS[name].control]
    places: dict[str, list[float]] = {name: [] for name in names}
    for column, targets in columns_of(facts).items():
        sign = -1.0 if facts.targets[targets[0]]["metric"] in LOWER_IS_BETTER else 1.0
        means: dict[str, float] = {}
        for name in names:
            chosen = chosen_trials(asked, zoo, name, runs)
            own = [r for r in runs if (r.stage, r.zoo, r.method) == ("score", facts.name, name)]
            scores = by_seed(own, facts, column, chosen=chosen)
            means[name] = sign * float(np.mean(list(scores.values()))) if scores else -math.inf
        for name in names:
            places[name].append(sum(other > means[name] for other in means.values()))
    ranked = sorted(names, key=lambda name: (float(np.mean(places[name])), names.index(name)))
    return tuple(ranked[: suite.leaders])
