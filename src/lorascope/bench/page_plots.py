"""Pictures of a benchmark's page: all at a glance, each zoo's scores, scores by the number of training LoRAs.

Of a zoo one panel per column, one line per method, a dot for each seed and a bar for the mean; dashed the best
control, dotted the label's ceiling. The same record gives the same bytes (with the same matplotlib).
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from lorascope.bench.methods import DEFAULT, METHODS
from lorascope.bench.page_glance import draw_glance, tasks_of
from lorascope.bench.summary import Summary, estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["write_pictures"]

COLOURS = {
    "control": "#8a8a8a",
    "spectra": "#e6a117",
    "directions": "#4f9d69",
    "network": "#d1495b",
    "default": "#1b6ca8",
}
LOWEST = -0.3  # of the axis: a method far below 0 must not squeeze the others


def write_pictures(summary: Summary, folder: Path) -> dict[str, str]:
    """Draw into a folder; returns the files by zoo, `glance` and `sizes`, relative to the page beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    if DEFAULT in summary.methods:
        _save(_glance(summary), folder / "benchmark.png")
        found["glance"] = f"{folder.name}/benchmark.png"
    for zoo in summary.asked.suite.zoos:
        path = folder / f"benchmark-{zoo}.png"
        _save(_scores(summary, zoo), path)
        found[zoo] = f"{folder.name}/{path.name}"
    if any(run.stage == "sizes" and run.scores for run in summary.runs):
        _save(_sizes(summary), folder / "benchmark-sizes.png")
        found["sizes"] = f"{folder.name}/benchmark-sizes.png"
    return found


def _save(figure: "Figure", path: Path) -> None:
    figure.savefig(path, format="png", metadata={"Software": None})


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _glance(summary: Summary) -> "Figure":
    tasks = [*tasks_of(summary), *tasks_of(summary, kinds=True)]
    figure = _figure(8.0, 1.0 + 0.21 * len(tasks))
    draw_glance(figure.subplots(), tasks)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _scores(summary: Summary, zoo: str) -> "Figure":
    names, columns = [*summary.controls, *summary.methods], list(summary.columns(zoo))
    figure = _figure(2.0 + 2.1 * len(columns), 1.0 + 0.22 * len(names))
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for panel, column in zip(axes, columns, strict=True):
        _panel(panel, summary, zoo, column, names)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.suptitle(f"{zoo}: {summary.asked.zoos[zoo].loras:,} LoRAs", fontsize=10)
    return figure


def _panel(panel: "Axes", summary: Summary, zoo: str, column: str, names: list[str]) -> None:
    for place, name in enumerate(names):
        values = list(summary.scores(zoo, name, column).values())
        if not values:
            continue
        colour = COLOURS[METHODS[name].kind]
        panel.plot(values, [place] * len(values), "o", color=colour, ms=3.5, alpha=0.45, mew=0)
        mean = sum(values) / len(values)
        panel.plot([mean], [place], "|", color=colour, ms=11, mew=2.2)
    best = summary.best(zoo, column, summary.controls)
    if best is not None:
        level = estimate(summary.scores(zoo, best, column)).mean
        panel.axvline(level, color=COLOURS["control"], linestyle="--", linewidth=1)
    ceiling = summary.ceiling(zoo, column)
    if ceiling is not None:
        panel.axvline(ceiling, color="black", linestyle=":", linewidth=1)
    panel.axhline(len(summary.controls) - 0.5, color="#cccccc", linewidth=0.8)
    panel.set_title(column, fontsize=9)
    panel.set_xlabel(summary.metric(zoo, column), fontsize=8)
    panel.tick_params(labelsize=7)
    panel.grid(axis="x", color="#eeeeee")
    panel.set_axisbelow(True)
    if summary.metric(zoo, column) == "r2":
        panel.set_xlim(left=max(LOWEST, panel.get_xlim()[0]))


def _sizes(summary: Summary) -> "Figure":
    """A row of panels for each zoo: score against LoRAs learned from, for the leaders and the best control."""
    zoos = summary.asked.suite.zoos
    widest = max(len(summary.columns(zoo)) for zoo in zoos)
    figure = _figure(2.2 * widest + 1.4, 2.3 * len(zoos))
    axes = figure.subplots(len(zoos), widest, squeeze=False)
    for row, zoo in zip(axes, zoos, strict=True):
        columns = list(summary.columns(zoo))
        for panel in row[len(columns) :]:
            panel.set_axis_off()
        for panel, column in zip(row, columns, strict=False):
            _curves(panel, summary, zoo, column)
        handles, labels = row[0].get_legend_handles_labels()
        row[0].legend(handles, labels, fontsize=5.5, frameon=False)
        row[0].set_ylabel(zoo, fontsize=9)
    return figure


def _curves(panel: "Axes", summary: Summary, zoo: str, column: str) -> None:
    for name in (*summary.leaders(zoo), *_control(summary, zoo, column)):
        points = _points(summary, zoo, name, column)
        if not points:
            continue
        width = 2.0 if name == DEFAULT else 1.0
        x, y = zip(*points, strict=True)
        if METHODS[name].control:
            grey = COLOURS["control"]
            panel.plot(x, y, "--", color=grey, linewidth=width, label="best control")
        else:
            panel.plot(x, y, "o-", ms=2.5, linewidth=width, label=name)
    panel.set_xscale("log")
    panel.set_title(f"{column} ({summary.metric(zoo, column)})", fontsize=8)
    panel.tick_params(labelsize=6)
    panel.grid(color="#eeeeee")
    if summary.metric(zoo, column) == "r2":
        panel.set_ylim(bottom=max(LOWEST, panel.get_ylim()[0]))


def _control(summary: Summary, zoo: str, column: str) -> tuple[str, ...]:
    best = summary.best(zoo, column, summary.controls)
    return () if best is None else (best,)


def _points(summary: Summary, zoo: str, name: str, column: str) -> list[tuple[float, float]]:
    """(LoRAs, mean score) by rising number, all of the zoo last."""
    found = []
    for count in summary.asked.suite.sizes:
        scores = summary.scores(zoo, name, column, stage="sizes", loras=count)
        found.append((float(count), estimate(scores).mean))
    everything = [
        r.rows["train"] + r.rows["validation"] for r in summary.runs_of(zoo, name) if r.rows
    ]
    if everything:
        mean = estimate(summary.scores(zoo, name, column)).mean
        found.append((float(max(everything)), mean))
    return [(x, y) for x, y in found if not math.isnan(y)]
