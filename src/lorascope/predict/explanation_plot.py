"""An explanation as a picture: a bar for each layer, its rank directions as dots, its sizes as a square.

The same explanation gives the same bytes (with the same matplotlib).
"""

from pathlib import Path

from lorascope.predict.explain import Explanation

__all__ = ["plot_explanation"]

MOST = 40  # layers drawn, those of the largest values
UP, DOWN = "#4878cf", "#d65f5f"


def plot_explanation(explanation: Explanation, path: Path | str) -> Path:
    """Draw what each layer says into a PNG file, in signature order.

    >>> plot_explanation(explain(predictor, batch), "layers.png")  # doctest: +SKIP
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kept = {part.layer for part in explanation.largest(MOST)}
    parts = [part for part in explanation.parts if part.layer in kept]
    figure = Figure(figsize=(8, 1.5 + 0.23 * len(parts)), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, part in enumerate(parts):
        axes.barh(place, part.value, color=UP if part.value >= 0 else DOWN, height=0.75)
        if part.directions:
            dots = list(part.directions)
            axes.plot(dots, [place] * len(dots), "o", color="#333333", markersize=2.5, alpha=0.7)
        # what belongs to the layer as a whole: with the dots it adds up to the bar
        whole = [x for x in (part.sizes, part.magnitudes) if x is not None]
        if whole:
            axes.plot([sum(whole)], [place], "s", color="#333333", markersize=4, fillstyle="none")
    axes.set_yticks(range(len(parts)), [_label(part.layer) for part in parts], fontsize=6)
    axes.invert_yaxis()
    axes.axvline(0, color="#333333", linewidth=0.8)
    unit = "change of the logit" if explanation.output else "change of the value"
    axes.set_xlabel(f"{unit} (dots: rank directions, squares: sizes)")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    what = _label(f"{explanation.target} {explanation.output}".rstrip())
    words = f"{what}: {explanation.prediction:.4g}, baseline {explanation.baseline:.4g}"
    axes.set_title(words, fontsize=9)
    path = Path(path)
    figure.savefig(path, format="png", metadata={"Software": None})
    return path


def _label(text: str) -> str:
    """Text that matplotlib does not take for mathematics, its end where it is long."""
    short = text if len(text) <= 70 else "..." + text[-67:]
    return short.replace("$", r"\$").encode("ascii", "replace").decode()
