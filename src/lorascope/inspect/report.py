"""How the facts and problems of one file are shown: as rich renderables, and as one JSON document.

Every string of a file passes through `printable` and a rich `Text`, so that neither a terminal code nor rich
markup in a name is obeyed. In JSON, numbers that are not finite, and those that were not measured, are null.
The keys of the document: docs/inspect-schema.json.
"""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lorascope.inspect.facts import Facts, KindFacts, LayerFacts
from lorascope.inspect.names import block_of, kind_of, printable
from lorascope.inspect.problem import Problem, Severity

__all__ = ["refusal_json", "refusal_view", "report_json", "report_view"]

BAR_WIDTH = 32
EIGHTHS = " ▏▎▍▌▋▊▉█"
COLOURS = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


def report_view(
    path: object, facts: Facts, problems: Sequence[Problem], *, every_layer: bool = False
) -> RenderableType:
    """The report of one LoRA for a terminal: head, kinds of layers, strength per block, problems.

    Args:
        path: what the user asked for; shown in the first line.
        every_layer: show each layer's own line instead of one line per kind.
    """
    parts: list[RenderableType] = [Text(printable(path), style="bold"), head(facts), Text()]
    if facts.layers:
        parts += [layer_table(facts) if every_layer else kind_table(facts), Text()]
    if facts.layers and facts.measured:
        parts += [block_bars(facts), Text()]
    parts.append(problem_list(problems))
    return Group(*parts)


def refusal_view(path: object, problems: Sequence[Problem]) -> RenderableType:
    """The report of a file that was refused: its path and why."""
    return Group(Text(printable(path), style="bold"), problem_list(problems))


def head(facts: Facts) -> Text:
    """What it is, its base, its size, and what is said about its training."""
    ranks = span([layer.rank for layer in facts.layers], "d")
    dtypes = ", ".join(sorted({layer.dtype for layer in facts.layers})) or "no layers"
    writer = f" written by {facts.writer}" if facts.writer else ""
    norm = (
        f"norm {number(facts.norm, lost(facts.layers))}"
        if facts.measured
        else "values not looked at"
    )
    lines = [
        f"{facts.format}{writer}, base {facts.base or 'not named'}",
        f"by names and shapes: {facts.family.name}{alike(facts)}",
        f"{len(facts.layers)} layers, rank {ranks}, {facts.parameters:,} parameters, "
        f"{size(facts.nbytes)} as {dtypes}, {norm}",
    ]
    if facts.training.trigger_words:
        lines.append(f"trigger words: {', '.join(facts.training.trigger_words)}")
    if facts.training.tags:
        shown = ", ".join(f"{tag} ({count})" for tag, count in facts.training.tags)
        lines.append(f"commonest tags: {shown}")
    if facts.training.facts:
        told = ", ".join(f"{name} {value}" for name, value in facts.training.facts.items())
        lines.append(f"training: {told}")
    return Text("\n".join(printable(line) for line in lines))


def alike(facts: Facts) -> str:
    """What names and shapes cannot tell apart, in brackets."""
    if not facts.family.alike:
        return ""
    return f" (cannot be told apart: {', '.join(facts.family.alike)})"


def kind_table(facts: Facts) -> Table:
    """One line per kind of layer: count, shape, rank, scale, norms, effective rank."""
    table = columns("kind of layer", "count", "n x m", "rank", "scale", "norm", "effective rank")
    for kind in facts.kinds():
        first = kind.layers[0]
        table.add_row(
            Text(printable(kind.kind)),
            Text(str(len(kind.layers))),
            Text(shape(first)),
            Text(span([layer.rank for layer in kind.layers], "d")),
            Text(scales(kind)),
            Text(span([x.norm for x in kind.layers], ".3g", lost(kind.layers))),
            Text(span([x.effective_rank for x in kind.layers], ".2f", lost(kind.layers))),
        )
    return table


def layer_table(facts: Facts) -> Table:
    """One line per layer."""
    table = columns("layer", "n x m", "rank", "scale", "norm", "largest", "effective rank")
    for layer in facts.layers:
        unknown = lost([layer])
        table.add_row(
            Text(printable(layer.name)),
            Text(shape(layer)),
            Text(str(layer.rank)),
            Text(f"{layer.scale.factor:g}" if layer.scale else "?"),
            Text(number(layer.norm, unknown)),
            Text(number(top(layer), unknown)),
            Text(span([layer.effective_rank], ".2f", unknown)),
        )
    return table


def block_bars(facts: Facts) -> Table:
    """Strength (Frobenius norm) per block of the base model, as bars on one scale."""
    blocks = facts.blocks()
    longest = max((block.norm or 0.0 for block in blocks), default=0.0)
    table = columns("block", "layers", "norm", "")
    for block in blocks:
        norm = block.norm
        table.add_row(
            Text(printable(block.block)),
            Text(str(len(block.layers))),
            Text(number(norm, lost(block.layers))),
            Text(bar((norm or 0.0) / longest if longest else 0.0), style="cyan"),
        )
    table.columns[-1].justify = "left"
    return table


def problem_list(problems: Sequence[Problem]) -> Text:
    """One line per problem, worst first; a plain word when there is none."""
    if not problems:
        return Text("no problems found", style="green")
    text = Text()
    for place, problem in enumerate(problems):
        text.append("\n" if place else "")
        text.append(f"{problem.severity.value:<8}", style=COLOURS[problem.severity])
        text.append(printable(f"{problem.code}: {problem.sentence}"))
    return text


def report_json(
    path: object, facts: Facts, problems: Sequence[Problem], *, outcome: str = "exact"
) -> dict[str, Any]:
    """The document of one file (docs/inspect-schema.json).

    Args:
        outcome: exact, ambiguous, part, or header where values were not looked at.
    """
    family, training = facts.family, facts.training
    return {
        "path": str(path),
        "outcome": outcome,
        "format": facts.format,
        "writer": facts.writer,
        "base": facts.base,
        "family": {
            "name": family.name,
            "alike": list(family.alike),
            "evidence": family.evidence,
        },
        "training": {
            "facts": dict(training.facts),
            "trigger_words": list(training.trigger_words),
            "tags": [{"tag": tag, "count": count} for tag, count in training.tags],
        },
        "parameters": facts.parameters,
        "bytes": facts.nbytes,
        "norm": facts.norm,
        "layers": [layer_json(layer, measured=facts.measured) for layer in facts.layers],
        "blocks": [
            {"block": b.block, "layers": len(b.layers), "norm": b.norm} for b in facts.blocks()
        ],
        "side": [
            {"name": s.name, "kind": s.kind, "shape": s.shape, "dtype": s.dtype}
            | {"finite": s.finite if facts.measured else None}
            for s in facts.side
        ],
        "ambiguities": list(facts.ambiguities),
        "notes": list(facts.notes),
        "left": list(facts.left),
        "problems": [problem_json(problem) for problem in problems],
    }


def refusal_json(path: object, problems: Sequence[Problem]) -> dict[str, Any]:
    """The document of a file that was refused; `error` is the reader's message."""
    return {
        "path": str(path),
        "outcome": "refused",
        "error": problems[0].sentence,
        "problems": [problem_json(problem) for problem in problems],
    }


def problem_json(problem: Problem) -> dict[str, Any]:
    """One problem as plain data."""
    return {
        "code": problem.code,
        "severity": problem.severity.value,
        "sentence": problem.sentence,
        "layers": list(problem.layers),
    }


def layer_json(layer: LayerFacts, *, measured: bool) -> dict[str, Any]:
    """One layer as plain data; what was not measured is None."""
    scale = layer.scale
    return {
        "name": layer.name,
        "kind": kind_of(layer.name),
        "block": block_of(layer.name),
        "n": layer.n,
        "m": layer.m,
        "kernel": layer.kernel,
        "rank": layer.rank,
        "dtype": layer.dtype,
        "scale": scale
        and {"alpha": scale.alpha, "rank": scale.rank, "factor": scale.factor, "rule": scale.rule},
        "norm": layer.norm,
        "rms": layer.rms,
        "top": top(layer),
        "effective_rank": layer.effective_rank,
        "dead_ranks": None if layer.spectrum is None else layer.dead_ranks,
        "finite": layer.finite if measured else None,
    }


def columns(*titles: str) -> Table:
    """A table without lines: the first column to the left, the others to the right."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, title in enumerate(titles):
        table.add_column(title, justify="right" if place else "left", overflow="fold")
    return table


def bar(share: float) -> str:
    """A bar of share (0 to 1) times the full width, in eighths of a character.

    Example:
        >>> bar(0.5) == "█" * 16
        True
    """
    eighths = round(min(max(share, 0.0), 1.0) * BAR_WIDTH * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (EIGHTHS[rest] if rest else "")


def span(values: Sequence[float | None], style: str, unknown: str = "-") -> str:
    """The values' range in few characters: one value, or "least to most"; `unknown` where one is None."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return unknown if values else "none"
    low, high = format(min(known), style), format(max(known), style)
    return low if low == high else f"{low} to {high}"


def scales(kind: KindFacts) -> str:
    """The factors of a kind and the rules that gave them."""
    known = [layer.scale for layer in kind.layers if layer.scale]
    if not known:
        return "?"
    rules = sorted({scale.rule for scale in known})
    return f"{span([scale.factor for scale in known], 'g')} = {printable(', '.join(rules))}"


def shape(layer: LayerFacts) -> str:
    """n x m, with the kernel of a convolution."""
    kernel = f" (kernel {'x'.join(map(str, layer.kernel))})" if layer.kernel else ""
    return f"{layer.n} x {layer.m}{kernel}"


def top(layer: LayerFacts) -> float | None:
    """The largest singular value, None if it is unknown."""
    return None if layer.spectrum is None else max(layer.spectrum, default=0.0)


def number(value: float | None, unknown: str = "-") -> str:
    """Three digits, or `unknown`."""
    return unknown if value is None else format(value, ".3g")


def lost(layers: Sequence[LayerFacts]) -> str:
    """What stands for a number that these layers lack: "nan" of a broken one, "-" where none was measured."""
    return "-" if all(layer.finite for layer in layers) else "nan"


def size(count: int) -> str:
    """Bytes in the largest unit that leaves a number above 1."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.3g} {unit}" if unit != "bytes" else f"{count} bytes"
        amount /= 1024
    return f"{amount:.3g} GiB"
