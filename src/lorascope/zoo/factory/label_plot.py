"""How the labels of a zoo are spread, in one picture: a histogram of each number, the share of each class.

Where the base alone has a value, a line marks it: what lies on either side is what finetuning changed. The same
zoo gives the same bytes (with the same matplotlib).
"""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorascope.errors import DataError
from lorascope.io.shard_writer import write_bytes
from lorascope.io.shards import LABEL, Zoo

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["class_shares", "write_label_plot"]

BARS, LINE = "#1b6ca8", "#d1495b"
COLUMNS = 3
MOST = 24  # classes that are drawn


def write_label_plot(zoo: Zoo, path: Path) -> Path:
    """Draw a panel for each target of a zoo that has values."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {name: target for name, target in zoo.targets.items() if _values(zoo, name)}
    rows = -(-max(1, len(panels)) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 2.7 * rows), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for panel, (name, target) in zip(axes, panels.items(), strict=False):
        _draw(panel, name, target, _values(zoo, name))
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    write_bytes(path, drawn.getvalue())
    return path


def class_shares(classes: Sequence[Any], values: Sequence[Any]) -> list[float]:
    """The share of LoRAs that have each class.

    Args:
        values: for each LoRA its class, by name or place, or a list that says of each class whether it has it.
    """
    if isinstance(values[0], list):
        counts = [sum(bool(value[place]) for value in values) for place in range(len(classes))]
    else:
        pairs = enumerate(classes)
        counts = [sum(value in (word, place) for value in values) for place, word in pairs]
    return [count / len(values) for count in counts]


def _values(zoo: Zoo, name: str) -> list[Any]:
    """The labels that are there. Raises DataError where there is no column, or a list of another length."""
    zoo.labels(name)
    values = [v for v in zoo.index.column(LABEL + name).to_pylist() if v is not None]
    classes = zoo.targets[name].get("classes", ())
    other = next((v for v in values if isinstance(v, list) and len(v) != len(classes)), None)
    if classes and other is not None:
        raise DataError(
            f"Drawing the labels {name!r} of {zoo.path}: found {len(other)} of a LoRA, expected one for each "
            f"of {len(classes)} classes. Try: lorascope zoo verify {zoo.path}."
        )
    return values


def _draw(panel: "Axes", name: str, target: Mapping[str, Any], values: list[Any]) -> None:
    classes = [str(word) for word in target.get("classes", ())]
    panel.tick_params(labelsize=8)
    panel.set_title(name, fontsize=10, parse_math=False)
    if target.get("kind") == "regression" or not classes:
        # an import by an earlier version took infinite labels, too
        panel.hist([value for value in values if math.isfinite(value)], bins=40, color=BARS)
        panel.set_ylabel("LoRAs", fontsize=8)
        alone = target.get("base_value")
        if alone is not None:
            panel.axvline(alone, color=LINE, linewidth=1.5, label=f"base alone {alone:.4g}")
            panel.legend(fontsize=8, frameon=False)
        return
    shares = class_shares(classes, values)[:MOST]
    panel.barh(range(len(shares)), shares, color=BARS)
    panel.set_yticks(range(len(shares)), classes[:MOST], fontsize=6, parse_math=False)
    panel.invert_yaxis()
    panel.set_xlabel("share of LoRAs", fontsize=8)
