"""What abstention buys: the error among the LoRAs that are answered, against how many are.

    risk(a) = mean loss of the a N LoRAs with the least doubt

A doubt that knows nothing gives a flat line at the mean loss; the best possible sorts by the loss itself. Any
number may be the doubt: the outlier score, the width of an interval, 1 - the highest probability.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lorascope.errors import DataError

__all__ = ["RiskCoverage", "plot_risk_coverage", "risk_coverage"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """The curve: shares of LoRAs answered, from few to all, with the mean loss among them.

    `area` is the mean of `risk` over coverage (less is better), `random` the mean loss of all.
    """

    coverage: Array
    risk: Array
    area: float
    random: float

    def at(self, share: float) -> float:
        """The risk where this share is answered."""
        return float(np.interp(share, self.coverage, self.risk))


def risk_coverage(doubt: Array, loss: Array) -> RiskCoverage:  # (b,), (b,)
    """The curve of a doubt; LoRAs of the same doubt are answered together.

    Raises DataError for other shapes, none, or numbers that are not finite.

    Example:
        >>> risk_coverage(np.array([0.1, 0.9]), np.array([0.0, 1.0])).risk.tolist()
        [0.0, 0.5]
    """
    doubt, loss = np.asarray(doubt, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if doubt.shape != loss.shape or doubt.ndim != 1 or len(doubt) == 0:
        raise DataError(
            f"Drawing risk against coverage: found doubts {doubt.shape} and losses {loss.shape}, expected one "
            "of each for every LoRA."
        )
    if not (np.isfinite(doubt).all() and np.isfinite(loss).all()):
        raise DataError("Drawing risk against coverage: a doubt or a loss is not finite.")
    order = np.argsort(doubt, kind="stable")
    answered = np.arange(1, len(doubt) + 1)
    risk = np.cumsum(loss[order]) / answered
    last = np.append(np.diff(doubt[order]) > 0, True)  # of those with the same doubt
    share, risk = answered[last] / len(doubt), risk[last]
    area = float((risk * np.diff(share, prepend=0.0)).sum())
    return RiskCoverage(share, risk, area, float(loss.mean()))


def plot_risk_coverage(
    curves: Mapping[str, RiskCoverage], path: Path | str, *, loss: str = "mean loss"
) -> Path:
    """Draw curves into a PNG file, the mean loss of all as a dashed line; the same curves give the same bytes.

    Raises DataError when there is no curve.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not curves:
        raise DataError("Drawing risk against coverage: found no curve, expected at least one.")
    figure = Figure(figsize=(5.2, 3.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, (name, curve) in enumerate(curves.items()):
        colour = f"C{number}"
        axes.plot(curve.coverage, curve.risk, color=colour, label=name, linewidth=1.6)
        axes.axhline(curve.random, color=colour, linestyle="--", linewidth=0.8)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("share of LoRAs answered, the least doubtful first")
    axes.set_ylabel(loss)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    path = Path(path)
    figure.savefig(path, format="png", metadata={"Software": None})
    return path
