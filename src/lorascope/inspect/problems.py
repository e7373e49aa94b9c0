"""Problems of one LoRA: each with a code, a severity and a sentence.

A problem is a judgement on facts (facts.py measures, this file judges). The table CHECKS is the whole list
of what is looked for; what the reader could not tell (`ambiguities`) becomes a problem of its own code.

    error     the file is broken or does nothing: do not use it
    warning   it can be used, but something in it is wrong, wasted or unknown
    note      a fact that a user of the file should know
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from lorascope.inspect.facts import Facts

__all__ = ["CHECKS", "Problem", "Severity", "problems_of"]

SHOWN = 3  # layers named in a sentence; all of them stand in `layers`
SCALE_RANGE = (1 / 256, 256.0)  # alpha/r outside this is a mistake in every trainer known to us
RMS_LIMIT = 1.0  # entries of pretrained weights are mostly 0.01 to 0.1: an update of this size replaces them
OUTLIER = 100.0  # times the median over layers


class Severity(Enum):
    """How bad a problem is, worst first."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Problem:
    """One finding: its code, how bad it is, a sentence, and the layers concerned."""

    code: str
    severity: Severity
    sentence: str
    layers: tuple[str, ...] = ()


def problems_of(facts: Facts) -> tuple[Problem, ...]:
    """Everything that is wrong or uncertain with a LoRA, worst first.

    Example:
        >>> from lorascope.inspect.facts import Facts
        >>> [p.code for p in problems_of(Facts("a", "peft", None, "base", 0, 0, ()))]
        ['no-layers']
    """
    found = [problem for check in CHECKS.values() for problem in check(facts)]
    order = list(Severity)
    return tuple(sorted(found, key=lambda problem: order.index(problem.severity)))


def no_layers(facts: Facts) -> Iterator[Problem]:
    """A file without a single factor pair."""
    if not facts.layers:
        yield Problem("no-layers", Severity.ERROR, "It holds no low-rank layer at all.")


def not_finite(facts: Facts) -> Iterator[Problem]:
    """NaN or Inf among the factors or side tensors."""
    broken = [layer.name for layer in facts.layers if not layer.finite]
    broken += [side.name for side in facts.side if not side.finite]
    if broken:
        yield Problem(
            "not-finite",
            Severity.ERROR,
            f"NaN or Inf in {count(broken, 'tensor')} ({some(broken)}): every output that they reach is lost.",
            tuple(broken),
        )


def zero_layers(facts: Facts) -> Iterator[Problem]:
    """Updates that are exactly zero: B is zero at step 0 of every trainer."""
    zero = [layer.name for layer in facts.layers if layer.norm == 0]
    if zero and len(zero) == len(facts.layers):
        yield Problem(
            "untrained",
            Severity.ERROR,
            f"All {count(zero, 'update')} are zero: an adapter as it is before its first training step.",
            tuple(zero),
        )
    elif zero:
        yield Problem(
            "zero-layers",
            Severity.WARNING,
            f"{count(zero, 'layer')} of {len(facts.layers)} are zero or untrained ({some(zero)}).",
            tuple(zero),
        )


def dead_ranks(facts: Facts) -> Iterator[Problem]:
    """Columns that add nothing to an update that is not zero."""
    wasted = [layer for layer in facts.layers if layer.norm and layer.dead_ranks]
    if wasted:
        dead, whole = sum(x.dead_ranks for x in wasted), sum(x.rank for x in wasted)
        names = [layer.name for layer in wasted]
        yield Problem(
            "dead-ranks",
            Severity.WARNING,
            f"{dead} of the {whole} ranks of {count(wasted, 'layer')} carry nothing ({some(names)}): "
            "a lower rank would hold the same update.",
            tuple(names),
        )


def rank_above_layer(facts: Facts) -> Iterator[Problem]:
    """More columns than the update can have rank."""
    high = [layer for layer in facts.layers if layer.rank > min(layer.n, layer.m)]
    if high:
        first = high[0]
        yield Problem(
            "rank-above-layer",
            Severity.WARNING,
            f"The rank of {count(high, 'layer')} is above the smaller side of the matrix "
            f"({first.name}: rank {first.rank}, {first.n} x {first.m}): the pair is larger than its update.",
            tuple(layer.name for layer in high),
        )


def absurd_scale(facts: Facts) -> Iterator[Problem]:
    """Scales that switch the adapter off, turn it round or blow it up."""
    low, high = SCALE_RANGE
    scaled = [(layer.name, layer.scale) for layer in facts.layers if layer.scale]
    odd = [(name, scale) for name, scale in scaled if not low <= scale.factor <= high]
    if odd:
        names = tuple(name for name, _ in odd)
        first, scale = odd[0]
        yield Problem(
            "absurd-scale",
            Severity.WARNING,
            f"The scale of {count(names, 'layer')} is outside {low:.4f} to {high:g} ({first}: "
            f"{scale.factor:g} by {scale.rule}, alpha {scale.alpha}, rank {scale.rank}).",
            names,
        )


def absurd_norm(facts: Facts) -> Iterator[Problem]:
    """Updates larger than any weight that they could be added to, or far above their neighbours."""
    sized = [(layer.name, layer.rms) for layer in facts.layers if layer.rms]
    huge = [(name, rms) for name, rms in sized if rms and rms > RMS_LIMIT]
    if huge:
        strongest, rms = max(huge, key=lambda item: item[1])
        yield Problem(
            "absurd-norm",
            Severity.WARNING,
            f"The update of {count(huge, 'layer')} is larger than pretrained weights are (entries of "
            f"{strongest}: root mean square {rms:.3g}, limit {RMS_LIMIT:g}): training has likely diverged.",
            tuple(name for name, _ in huge),
        )
    median = statistics.median(rms for _, rms in sized if rms) if sized else 0.0
    far = [name for name, rms in sized if rms and rms > OUTLIER * median]
    if far:
        yield Problem(
            "outlier-layers",
            Severity.WARNING,
            f"{count(far, 'layer')} over {OUTLIER:g} times as strong as the median layer ({some(far)}).",
            tuple(far),
        )


def config_contradicts(facts: Facts) -> Iterator[Problem]:
    """Modules that the configuration says are adapted, and of which no layer is there."""
    targets = facts.config.get("target_modules")
    if not isinstance(targets, Sequence) or isinstance(targets, str) or not facts.layers:
        return
    lacking = [t for t in map(str, targets) if not any(holds(x.name, t) for x in facts.layers)]
    if lacking:
        yield Problem(
            "targets-missing",
            Severity.WARNING,
            f"The configuration targets {some(lacking)}, but no layer of that name is in the file.",
        )


def uncertain(facts: Facts) -> Iterator[Problem]:
    """What the file cannot tell: the reader's ambiguities under their own codes."""
    for sentence in facts.ambiguities:
        yield coded(sentence, Severity.WARNING, "ambiguous")


def noted(facts: Facts) -> Iterator[Problem]:
    """What the reader noted, and what came beside the low-rank layers."""
    for sentence in facts.notes:
        yield coded(sentence, Severity.NOTE, "note")
    kinds = sorted({side.kind for side in facts.side})
    if kinds:
        names = [side.name for side in facts.side]
        yield Problem(
            "side-tensors",
            Severity.NOTE,
            f"{count(names, 'tensor')} of kind {some(kinds)} beside the low-rank layers: "
            "part of the adapter, but not of the updates measured here.",
            tuple(names),
        )
    if facts.base is None and facts.layers:
        yield Problem("base-unknown", Severity.NOTE, "The file does not name its base model.")


CHECKS: dict[str, Callable[[Facts], Iterator[Problem]]] = {
    "no_layers": no_layers,
    "not_finite": not_finite,
    "zero_layers": zero_layers,
    "dead_ranks": dead_ranks,
    "rank_above_layer": rank_above_layer,
    "absurd_scale": absurd_scale,
    "absurd_norm": absurd_norm,
    "config_contradicts": config_contradicts,
    "uncertain": uncertain,
    "noted": noted,
}


def coded(sentence: str, severity: Severity, fallback: str) -> Problem:
    """A problem from a sentence that starts with its code and a colon."""
    code, colon, rest = sentence.partition(":")
    named = bool(colon) and code.replace("-", "").replace("_", "").isalnum()
    return Problem(code, severity, rest.strip()) if named else Problem(fallback, severity, sentence)


def holds(name: str, target: str) -> bool:
    """Whether PEFT's rule of names takes the layer for the target."""
    return name == target or name.endswith(f".{target}")


def some(names: Sequence[str]) -> str:
    """The first few names, and that there are more."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def count(things: Sequence[object], noun: str) -> str:
    """A number with its noun."""
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
