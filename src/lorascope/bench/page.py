"""The page of a suite, docs/benchmark.md: Markdown and pictures, from the record alone.

The same record gives the same bytes. Nothing in it is typed by hand but the sentences; numbers are those of
the runs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorascope.bench.choice import option_key, trials_of
from lorascope.bench.markdown import folded, table
from lorascope.bench.methods import DEFAULT
from lorascope.bench.page_axes import axes
from lorascope.bench.page_glance import glance
from lorascope.bench.page_plots import write_pictures
from lorascope.bench.page_tables import differences, in_distribution
from lorascope.bench.published import published
from lorascope.bench.record import load_asked, load_runs
from lorascope.bench.stages import asked_runs, plan_lines
from lorascope.bench.summary import Summary
from lorascope.errors import DataError

__all__ = ["page_text", "write_page"]


def write_page(folder: Path | str, page: Path | str | None = None) -> Path:
    """Write the page of a suite's folder, with pictures/ beside it; returns its path.

    Raises FileError when the folder holds no suite, DataError when no run has a score yet.
    """
    folder = Path(folder)
    asked = load_asked(folder)
    summary = Summary(asked, asked_runs(asked, load_runs(folder)))
    if not any(run.stage == "score" and run.scores for run in summary.runs):
        raise DataError(
            f"Reporting the benchmark {folder}: its record has no score yet. Try: lorascope bench run "
            "--suite, which goes on where it stopped."
        )
    page = Path(page) if page is not None else folder / "benchmark.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    pictures = write_pictures(summary, page.parent / "pictures")
    page.write_text(page_text(summary, pictures), encoding="utf-8")
    return page


def page_text(summary: Summary, pictures: Mapping[str, str] | None = None) -> str:
    """The whole page; `pictures` are file names by zoo, relative to the page."""
    pictures = pictures or {}
    lines = ["# Benchmark", "", *_head(summary)]
    if found := glance(summary):
        lines += ["## At a glance", "", GLANCE, "", *found]
    if "glance" in pictures:
        lines += [f"![Every task at a glance]({pictures['glance']})", ""]
    lines += ["## In distribution", "", MARKS, ""]
    for zoo in summary.asked.suite.zoos:
        lines += [f"### {zoo}", "", *in_distribution(summary, zoo)]
        if zoo in pictures:
            lines += [f"![Scores on {zoo}]({pictures[zoo]})", ""]
        lines += differences(summary, zoo)
    if found := axes(summary):
        lines += ["## Axes", "", AXES, "", *found]
    if "sizes" in pictures:
        lines += [f"![Scores by training LoRAs]({pictures['sizes']})", ""]
    lines += [*_tuning(summary), *published(), *_failures(summary), ADD.strip(), ""]
    return "\n".join(lines)


MARKS = (
    "Mean over the seeds and its standard error, on groups (people, subsets, sets of sources) that were not "
    "learned from. Controls stand first. Bold: the best of a column. † does not beat every control, ‡ not "
    "even the majority or mean: the gain, paired by seed, is not above its standard error. Scores that the "
    "base has too are predicted as the change against it; `traits` is the mean of five continuous traits. "
    "Hyper-parameters that are the answer to a column are kept from the control that reads them."
)
GLANCE = (
    "Scores on unseen groups, mean over the seeds and its standard error. *Of the gap*: how much of what lies "
    "between the best of the paper's models and W2T and the label's ceiling the default closes (*no gap*: that "
    "best is within two standard errors of the ceiling). Last, the default's lead over the best of all others, "
    "paired by seed; bold where the other is better by more than two standard errors. The best of others are "
    "chosen after the fact, which favours them."
)
AXES = (
    "The same trained methods as above, asked of other LoRAs. The tables hold the controls and the "
    "leaders: the methods of smallest mean place in the table of the zoo they were trained on."
)
ADD = """
## Adding a method

One file and one row. A model of the library (a file in `models/`, a row in `models/build.py`) answers by
`model("name")`; anything else is a function from an `Assignment` to `Answers`:

    # src/lorascope/bench/median.py
    import numpy as np
    from lorascope.bench.answers import Answers, Assignment

    def median(given: Assignment) -> Answers:
        rows = given.split.train
        middle = {name: np.nanmedian(given.data.labels[name][rows], axis=0) for name in given.targets}
        return Answers({
            key: {name: np.tile(value, (len(of), 1)) for name, value in middle.items()}
            for key, of in given.sets.items()
        })

    # the row, in src/lorascope/bench/methods.py
    Method("median", "spectra", median, trials=({},), steps=0.1)

`trials` are the dials that are tried, `steps` and `cube` what a training costs. The next `lorascope bench run`
runs what is missing of it, and nothing else. Who changes what a method answers raises its `revision`, and its
runs are made again.
"""


def _head(summary: Summary) -> list[str]:
    suite = summary.asked.suite
    hours = sum(run.all_seconds for run in summary.runs) / 3600
    versions = sorted({run.versions.get("lorascope", "") for run in summary.runs})
    lines = [
        f"`lorascope bench run --suite {suite.name}`, then `lorascope bench report`: made from the record, "
        f"by lorascope {', '.join(versions)}. {len(summary.runs)} runs, {hours:.2f} hours of one core. "
        f"{len(suite.seeds)} seeds: each is a split by group (70 % to learn from, 10 % to validate, 20 % to "
        "test), an order of the rows and a start. Every method sees the same rows and learns all targets of a "
        "zoo in one training.",
        "",
    ]
    rows = []
    for name, facts in summary.asked.zoos.items():
        rows.append([name, facts.base, f"{facts.loras:,}", f"{facts.numbers:,}", facts.digest])
    lines += table(["zoo", "base", "LoRAs", "numbers a LoRA", "digest"], rows)
    if summary.asked.missing:
        lines += [f"Not there when this was run: {', '.join(summary.asked.missing)}.", ""]
    return lines + _to_come(summary)


def _to_come(summary: Summary) -> list[str]:
    """What a record that is not complete lacks."""
    plan = plan_lines(summary.asked, summary.runs)
    lacks = [
        f"{line.runs - line.done} of {line.runs} of the stage {line.stage} on {line.zoo}"
        for line in plan
        if line.done < line.runs
    ]
    if not lacks:
        return []
    return [
        f"**Not complete.** Runs yet to be made, their places are empty: {'; '.join(lacks)}.",
        "",
    ]


def _tuning(summary: Summary) -> list[str]:
    """The space of every method and what was chosen."""
    suite = summary.asked.suite
    rows = []
    for name in summary.methods:
        trials = trials_of(summary.asked, name)
        chosen = [_chosen(summary, zoo, name) for zoo in suite.zoos]
        space = "; ".join(f"{place}: {_dials(trial)}" for place, trial in enumerate(trials))
        rows.append([name, space if len(trials) > 1 else "chosen inside its fit", *chosen])
    text = (
        f"{suite.trials} trials of every method on seed {suite.seeds[0]} and at most "
        f"{suite.tuning_loras:,} LoRAs, judged on the validation rows, once for values and once for classes "
        "(written values / classes). Methods that choose inside their fit, by left-out groups or on the "
        "validation rows, have no other dials; the paper's settings are two, for images and for language "
        "models. The test rows of the other seeds were partly among those that the choice was made on, for "
        "every method alike. "
        f"The design of {DEFAULT}, ours, was shaped on the rows of seed {suite.seeds[0]} beside this, test "
        "rows included (LOG.md)."
    )
    lines = table(["", "trials", *suite.zoos], rows)
    return ["## Tuning", "", text, "", *folded("Search spaces and choices", lines)]


def _chosen(summary: Summary, zoo: str, method: str) -> str:
    keys = [option_key(trial) for trial in trials_of(summary.asked, method)]
    if len(keys) < 2:
        return ""
    chosen = summary.chosen(zoo, method)
    return " / ".join(str(keys.index(option_key(options))) for options in chosen.values())


def _dials(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items()) or "defaults"


def _failures(summary: Summary) -> list[str]:
    """Runs without any score, by their reason."""
    said: dict[str, list[str]] = {}
    for run in summary.runs:
        if run.error:
            said.setdefault(run.error, []).append(f"{run.method} on {run.zoo} ({run.stage})")
    if not said:
        return []
    lines = [f"- {', '.join(sorted(set(who)))}: {error}" for error, who in sorted(said.items())]
    return ["## Runs without a score", "", *lines, ""]
