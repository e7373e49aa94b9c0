"""The strength per block as a picture: norm of the update and effective rank of its layers, block by block."""

import io
import os
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lorascope.errors import DataError, FileError
from lorascope.inspect.facts import BlockFacts, Facts
from lorascope.inspect.names import printable

__all__ = ["plot_strength"]

MAX_BLOCKS = 400
MAX_LABEL = 60


def plot_strength(facts: Facts, path: Path | str) -> Path:
    """Write the picture as PNG: one row a block, its norm as a bar, the mean effective rank as a point.

    Raises:
        DataError: there is nothing to draw: no layers, or values that were not looked at.
        FileError: the picture cannot be written.
    """
    blocks = facts.blocks()[:MAX_BLOCKS]
    if not blocks or not facts.measured:
        raise DataError(
            f"Drawing {facts.source!r}: it has no measured layers. Try: without --headers, or another file."
        )
    places = range(len(blocks))
    figure = Figure(figsize=(9, 1.6 + 0.22 * len(blocks)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    left.barh(places, [block.norm or 0.0 for block in blocks], color="#4878cf", height=0.8)
    left.set_yticks(list(places), [label(block) for block in blocks], fontsize=7)
    left.invert_yaxis()
    left.set_xlabel("norm of the update")
    right.plot([mean_rank(block) for block in blocks], places, "o", color="#d65f5f", markersize=3)
    right.set_xlim(left=0)
    right.set_xlabel("effective rank")
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        plain(f"{Path(facts.source).name}: {facts.format}, {facts.family.name}"), fontsize=10
    )
    return write(figure, Path(path))


def write(figure: Figure, path: Path) -> Path:
    """The figure as a PNG that is there whole or not at all."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(picture.getvalue())
        beside.replace(path)
    except OSError as error:
        raise FileError(f"Writing the picture {str(path)!r}: {error.strerror or error}.") from error
    return path


def label(block: BlockFacts) -> str:
    """The block's name, its end where it is long."""
    name = block.block
    return plain(name if len(name) <= MAX_LABEL else "..." + name[-MAX_LABEL:])


def mean_rank(block: BlockFacts) -> float:
    """Mean effective rank of the block's layers, 0 where none is known."""
    known = [x.effective_rank for x in block.layers if x.effective_rank is not None]
    return sum(known) / len(known) if known else 0.0


def plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics, and that every font has."""
    return printable(text).replace("$", r"\$").encode("ascii", "replace").decode()
