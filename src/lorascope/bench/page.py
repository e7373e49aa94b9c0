"""The page of a suite, docs/benchmark.md: Markdown and pictures, from the record alone.

The same record gives the same bytes. Nothing in it is typed by hand but the sentences; numbers are those of
the runs.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorascope.bench.choice import option_key, trials_of
from lorascope.bench.markdown import folded, table
from lorascope.bench.methods import DEFAULT
from lorascope.bench.page_axes import axes
from lorascope.bench.page_glance import glance, tasks_of, verdict
from lorascope.bench.page_losses import ahead, failed
from lorascope.bench.page_plots import write_pictures
from lorascope.bench.page_tables import differences, in_distribution
from lorascope.bench.published import published
from lorascope.bench.record import load_asked, load_runs
from lorascope.bench.stages import asked_runs, plan_lines
from lorascope.bench.summary import OVERLAP, Place, Summary
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
        lines += ["## At a glance", "", GLANCE, "", verdict(tasks_of(summary)), "", *found]
    if found := glance(summary, kinds=True):
        others = verdict(tasks_of(summary, kinds=True))
        lines += ["## Other adapters at a glance", "", KINDS, "", others, "", *found]
    if "glance" in pictures:
        lines += [f"![Every task at a glance]({pictures['glance']})", ""]
    lines += ["## In distribution", "", MARKS, ""]
    for zoo in summary.asked.suite.zoos:
        lines += [f"### {zoo}", "", *in_distribution(summary, zoo)]
        if zoo in pictures:
            lines += [f"![Scores on {zoo}]({pictures[zoo]})", ""]
        lines += differences(summary, Place(zoo), [*summary.controls, *summary.methods])
    if found := axes(summary):
        lines += ["## Axes", "", AXES, "", *found]
    if "sizes" in pictures:
        lines += [f"![Scores by training LoRAs]({pictures['sizes']})", ""]
    lines += [*ahead(summary), *failed(summary), *_tuning(summary), *published()]
    lines += [*_failures(summary), ADD.strip(), ""]
    return "\n".join(lines)


MARKS = (
    "Mean over the seeds and its standard error, on groups (people, subsets, sets of sources) that were not "
    "learned from. Controls stand first. Bold: the best of a column. † does not beat every control, ‡ not "
    "even the majority or mean: the gain, paired by seed, is not above its standard error. Scores that the "
    "base has too are predicted as the change against it; `traits` is the mean of five continuous traits. "
    "Hyper-parameters that are the answer to a column are kept from the control that reads them. *weights*: "
    "numbers that gradients trained; *stored MB*: the state in the folder of one predictor, where kernels keep "
    "their training LoRAs."
)
GLANCE = (
    "Scores on unseen groups, mean over the seeds and its standard error. *Of the gap*: the share of the "
    "distance between the best of the paper's models and W2T and the label's ceiling that the default closes "
    "(*no gap*: that best is within two standard errors of the ceiling). A ceiling is how well a label "
    "repeats under other noise or other questions, with its standard error where the zoo tells it. What both "
    "readings share, such as which facts an exam asks for, can be learned: a score may lie above the ceiling. "
    "Where any method's does (*above the ceiling*), the ceiling bounds nothing, and no share is computed. "
    "Last, the default's lead over the best of all others, paired by seed; bold where any other method, not "
    "only that one, is better by more than two standard errors. The best of the others is picked after the "
    "fact, which favours it."
)
KINDS = (
    "The same for small zoos of other adapters, split by group like all; only the controls and the leaders "
    "of the zoo that hyper-parameters were chosen on are trained there."
)
AXES = (
    "The same trained methods as above, asked about other LoRAs. LoRAs that share their group (their set of "
    "sources, for instance) with one that was learned from are left out; faces of other zoos show other "
    "people. The tables hold the controls and the leaders: the methods of smallest mean place in the table of "
    "the zoo they were trained on."
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

`trials` are the dials that are tried, `steps`, `cube` and `factors` what they cost. The next `lorascope bench
run` runs what is missing of it, and nothing else. Who changes what a method answers raises its `revision`, and
its runs are made again.
"""


def _head(summary: Summary) -> list[str]:
    suite = summary.asked.suite
    hours = sum(run.all_seconds for run in summary.runs) / 3600
    codes = ", ".join(sorted({run.code for run in summary.runs if run.code}))
    seeds = len(suite.seeds)
    factor = math.sqrt((1 / seeds + OVERLAP) * seeds)
    lines = [
        f"`lorascope bench run --suite {suite.name}`, then `lorascope bench report`: made from the record, "
        f"by lorascope {summary.asked.terms.version} (source {codes}). {len(summary.runs)} runs, {hours:.2f} "
        f"hours of one core. {seeds} seeds: each is a split by group (70 % to learn from, 10 % to validate, "
        "20 % to test), an order of the rows and a start.",
        "",
        "**What methods are given.** All the same: the factors of the LoRAs that they learn from (and "
        "DoRA's magnitudes), their groups, and the labels of all targets of the zoo, learned in one "
        "training; learning rate and steps or epochs are among the targets. Every other hyper-parameter "
        "(batch size, dropout, weight decay, prompt) is hidden from all but the control *hyper-parameters*, "
        "which reads no weight.",
        "",
        f"**Errors.** ± is a standard error over {seeds} seeds, corrected for splits that share rows (Nadeau "
        f"and Bengio 2003): deviation times sqrt(1/{seeds} + 20/70), {factor:.2f} times that of independent "
        "splits. Other zoos are tested whole by every seed, but for the groups that it learned from: their "
        "errors say nothing of what another draw of those LoRAs would change.",
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
        f"{suite.trials} trials of every method on seed {suite.seeds[0]} and at most {suite.tuning_loras:,} "
        "LoRAs, judged on the validation rows, once for values and once for classes (written values / "
        "classes): by the mean over targets of 1 - R^2, at most 1 so that none that cannot be learned "
        "chooses for all, or by the log loss. Methods that choose inside their fit, by left-out groups or "
        "on the validation rows, have no other dials; the paper's settings are those of its code for "
        "attributes, language models, CLIP scores and Imagenette. The test rows of the other seeds were "
        f"partly among those that the choice was made on, for every method alike. The design of {DEFAULT}, "
        f"ours, was shaped on the rows of seed {suite.seeds[0]} beside this, test rows included (LOG.md)."
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
