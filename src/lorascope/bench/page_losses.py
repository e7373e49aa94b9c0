"""What a benchmark's page owes its reader: where the default loses or is level, and what failed.

    ahead    a method whose mean is better than the default's, paired by seed; bold by more than two
             standard errors, level otherwise
    failed   a method whose mean lies below the majority's, or below that of the best control

Both are lists of everything that is so, made from the record: nothing is chosen.
"""

from collections.abc import Mapping, Sequence

from lorascope.bench.jobs import OWN_BASE
from lorascope.bench.markdown import difference, folded, table
from lorascope.bench.methods import DEFAULT, METHODS
from lorascope.bench.page_glance import homes
from lorascope.bench.summary import Estimate, Place, Summary, estimate
from lorascope.bench.table import MAJORITY

__all__ = ["ahead", "failed", "places_of"]

AHEAD = (
    "Every method, controls too, whose mean is better than that of `{default}`, on unseen groups and on "
    "every axis: how much better, paired by seed; bold by more than two standard errors, level otherwise. "
    "With {methods} methods on so many tasks some lead by chance."
)
FAILED = (
    "Columns of the tables in distribution, and of other adapters, on which the mean of a method lies below "
    "that of the majority (or the mean of the labels), or below that of the best control."
)


def places_of(summary: Summary) -> dict[str, list[Place]]:
    """All places where methods are scored, by the name of their kind."""
    suite = summary.asked.suite
    shifts = [
        Place(zoo, on=name)
        for zoo in suite.zoos
        for on in suite.shifts.get(zoo, ())
        for name in (on, on + OWN_BASE)
        if any(
            name in run.scores for method in suite.methods for run in summary.runs_of(zoo, method)
        )
    ]
    sizes = [Place(zoo, stage="sizes", loras=count) for zoo in suite.zoos for count in suite.sizes]
    found = {
        "in distribution": homes(summary),
        "other adapters": homes(summary, kinds=True),
        "other ranks, bases and DoRA": shifts,
        "fewer LoRAs": sizes,
    }
    return {name: places for name, places in found.items() if places}


def ahead(summary: Summary) -> list[str]:
    """The section of what is better than the default, or level with it."""
    if DEFAULT not in summary.methods:
        return []
    text = AHEAD.format(default=DEFAULT, methods=len(summary.asked.suite.methods) - 1)
    lines = [f"## Where `{DEFAULT}` loses or is level", "", text, ""]
    for kind, places in places_of(summary).items():
        rows, asked, beaten = [], 0, 0
        for place in places:
            for column in summary.columns(place.zoo):
                leads = _ahead(summary, place, column)
                asked += leads is not None
                if not leads:
                    continue
                beaten += any(map(_beats, leads.values()))
                told = [_told(name, lead) for name, lead in leads.items()]
                rows.append([_where(summary, place, column), ", ".join(told)])
        said = (
            f"**{kind[0].upper()}{kind[1:]}**: of {asked} tasks another method leads on {len(rows)}, on "
            f"{beaten} by more than two standard errors."
        )
        shown = table(["", "ahead of the default"], rows)
        lines += [said, "", *(folded(f"The {len(rows)} tasks", shown) if rows else [])]
    return lines


def _ahead(summary: Summary, place: Place, column: str) -> dict[str, Estimate] | None:
    """The methods ahead, best first, each by how much; None where nobody can be compared.

    Most columns ask no value of the base: there the changes, `OWN_BASE`, are no question of their own.
    """
    if _repeats(summary, place, column):
        return None
    leads = {
        name: summary.lead(place, column, name)
        for name in summary.asked.suite.methods
        if name != DEFAULT
    }
    known = {name: lead for name, lead in leads.items() if lead.known}
    if not known:
        return None
    found = {name: Estimate(-x.mean, x.error, x.seeds) for name, x in known.items() if x.mean < 0}
    return dict(sorted(found.items(), key=lambda pair: (-pair[1].mean, pair[0])))


def _repeats(summary: Summary, place: Place, column: str) -> bool:
    """Whether the set asks again what the set before it does."""
    if not place.on.endswith(OWN_BASE):
        return False
    first = place.on.removesuffix(OWN_BASE)
    return all(
        summary.scores(place.zoo, name, column, on=place.on)
        == summary.scores(place.zoo, name, column, on=first)
        for name in summary.asked.suite.methods
    )


def _beats(lead: Estimate) -> bool:
    return lead.mean > 2 * lead.error


def _told(name: str, lead: Estimate) -> str:
    shown = f"*{name}*" if METHODS[name].control else name
    return f"{shown} {difference(lead, bold=_beats(lead))}"


def _where(summary: Summary, place: Place, column: str) -> str:
    on = "" if place.on == "test" else f" -> {place.on}"
    size = "" if place.loras is None else f", {place.loras} LoRAs"
    return f"{place.zoo}{on}{size}: {column} ({summary.metric(place.zoo, column)})"


def failed(summary: Summary) -> list[str]:
    """The section of methods that do not reach what trivial ones do."""
    below: dict[str, tuple[list[str], list[str]]] = {name: ([], []) for name in summary.methods}
    for place in [*homes(summary), *homes(summary, kinds=True)]:
        for column in summary.columns(place.zoo):
            means = _means(summary, place, column)
            controls = [means[name] for name in summary.controls if name in means]
            for name in [name for name in summary.methods if name in means and controls]:
                title = f"{place.zoo}: {column}"
                if MAJORITY in means and means[name] < means[MAJORITY]:
                    below[name][0].append(title)
                elif means[name] < max(controls):
                    below[name][1].append(title)
    rows = [[name, _listed(worse), _listed(weak)] for name, (worse, weak) in below.items()]
    rows = [row for row in rows if any(cell != NOTHING for cell in row[1:])]
    if not rows:
        return []
    shown = table(["", "below the majority", "below the best control"], rows)
    return ["## What failed", "", FAILED, "", *folded(f"{len(rows)} methods", shown)]


NOTHING = "-"


def _listed(titles: Sequence[str]) -> str:
    return f"{len(titles)}: {', '.join(titles)}" if titles else NOTHING


def _means(summary: Summary, place: Place, column: str) -> Mapping[str, float]:
    """The mean of every method that has one, more being better."""
    sign = summary.sign(place.zoo, column)
    found = {
        name: estimate(summary.scores(place.zoo, name, column, **place.where))
        for name in summary.asked.suite.methods
    }
    return {name: sign * of.mean for name, of in found.items() if of.known}
