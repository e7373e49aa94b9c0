"""The picture of a benchmark: one panel per target, one line per control and model, one dot per seed.

A dashed line marks the best control, a dotted one the ceiling of the labels; models are coloured by the
symmetry that they declare. The same table gives the same bytes (with the same matplotlib).
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from lorascope.bench.boosting import BOOSTING, SYMMETRY
from lorascope.bench.table import Row, Table
from lorascope.core.symmetry_kind import Symmetry
from lorascope.models.build import MODELS
from lorascope.predict.target import Target
from lorascope.train.metrics import LOWER_IS_BETTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONTROL = "#8a8a8a"
COLOURS = {Symmetry.NONE: "#d1495b", Symmetry.O: "#e6a117", Symmetry.GL: "#1b6ca8"}
LABELS = {Symmetry.NONE: "no symmetry", Symmetry.O: "O(r)", Symmetry.GL: "GL(r)"}


def write_plot(table: Table, path: Path | str) -> None:
    """Draw the table into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    targets = table.plan.targets
    height = 1.3 + 0.27 * len(table.rows)
    figure = Figure(figsize=(2.2 + 3.4 * len(targets), height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(targets), sharey=True, squeeze=False)[0]
    for panel, target in zip(axes, targets, strict=True):
        _draw(panel, table, target)
    axes[0].set_yticks(range(len(table.rows)), [row.name for row in table.rows])
    axes[0].invert_yaxis()
    figure.suptitle(_title(table), fontsize=10)
    figure.legend(
        handles=_legend(table), loc="outside lower center", ncols=6, fontsize=8, frameon=False
    )
    figure.savefig(path, format="png", metadata={"Software": None})


def _draw(panel: "Axes", table: Table, target: Target) -> None:
    for place, row in enumerate(table.rows):
        scores = list(row.cells[target.name].scores.values())
        if not scores:
            panel.text(0.02, place, "no score", transform=panel.get_yaxis_transform(), fontsize=7)
            continue
        colour = _colour(row)
        mean = row.cells[target.name].mean
        panel.plot(
            scores, [place] * len(scores), "o", color=colour, markersize=4, alpha=0.45, mew=0
        )
        panel.plot([mean], [place], "|", color=colour, markersize=13, markeredgewidth=2.5)
    best = _best_control(table, target)
    if best is not None:
        panel.axvline(best, color=CONTROL, linestyle="--", linewidth=1)
    ceiling = table.ceiling(target)
    if ceiling is not None:
        panel.axvline(ceiling, color="black", linestyle=":", linewidth=1)
    controls = len(table.plan.controls)
    panel.axhline(controls - 0.5, color="#cccccc", linewidth=0.8)
    arrow = "less is better" if target.metric in LOWER_IS_BETTER else "more is better"
    panel.set_title(target.name, fontsize=10)
    panel.set_xlabel(f"{target.metric} ({arrow})", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.grid(axis="x", color="#eeeeee")
    panel.set_axisbelow(True)
    _limit(panel, table, target)


def _limit(panel: "Axes", table: Table, target: Target) -> None:
    """Keep a model that fails badly (R^2 far below 0) from squeezing all others together."""
    if target.metric == "r2":
        low = min(
            (s for row in table.rows for s in row.cells[target.name].scores.values()), default=0
        )
        panel.set_xlim(left=max(low, -0.5) - 0.05)


def _best_control(table: Table, target: Target) -> float | None:
    means = [row.cells[target.name].mean for row in table.rows if row.control]
    means = [mean for mean in means if not math.isnan(mean)]
    if not means:
        return None
    return min(means) if target.metric in LOWER_IS_BETTER else max(means)


def _colour(row: Row) -> str:
    return CONTROL if row.control else COLOURS[symmetry_of(row.name)]


def symmetry_of(name: str) -> Symmetry:
    """What a model of the table declares, or the reference that is no model."""
    return SYMMETRY if name == BOOSTING else MODELS[name].symmetry


def _title(table: Table) -> str:
    seeds = len(table.plan.seeds)
    return f"{table.plan.loras} LoRAs, {seeds} seed{'s' if seeds > 1 else ''}: a dot each, a bar the mean"


def _legend(table: Table) -> list[object]:
    from matplotlib.lines import Line2D

    used = {symmetry_of(row.name) for row in table.models()}
    dots = [
        Line2D([], [], marker="o", linestyle="", color=COLOURS[s], label=LABELS[s], markersize=5)
        for s in Symmetry
        if s in used
    ]
    lines = [Line2D([], [], color=CONTROL, linestyle="--", label="best control")]
    if any(table.ceiling(target) is not None for target in table.plan.targets):
        lines.append(Line2D([], [], color="black", linestyle=":", label="ceiling of the labels"))
    return [*dots, *lines]
