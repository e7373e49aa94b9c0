"""Problems of one LoRA: each with a code, a severity and a sentence.

A problem is a judgement on facts (facts.py measures, this file judges). The table CHECKS is the whole list
of what is looked for in facts; what the reader could not tell (`ambiguities`) or not read (`left`) becomes a
problem of its own code. Problems of a header are in headers.py, refusals in refusals.py.
"""

import re
import statistics
from collections.abc import Callable, Iterator, Sequence

from lorascope.inspect.contradictions import alpha_contradicts, base_contradicts, rank_contradicts
from lorascope.inspect.facts import Facts
from lorascope.inspect.problem import Problem, Severity, coded, count, some, worst_first

__all__ = ["CHECKS", "Problem", "Severity", "problems_of"]

SCALE_RANGE = (1 / 256, 256.0)  # alpha/r outside this is a mistake in every trainer known to us
RMS_LIMIT = 1.0  # entries of pretrained weights are mostly 0.01 to 0.1: an update of this size replaces them
OUTLIER = 100.0  # times the median over layers
# markup, command substitution and control characters in metadata
ACTIVE = re.compile(
    r"<\s*(?:script|img|iframe|svg)\b|javascript:|\$\(|\brm -rf\b|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]",
    re.IGNORECASE,
)


def problems_of(facts: Facts) -> tuple[Problem, ...]:
    """Everything that is wrong or uncertain with a LoRA, worst first.

    Example:
        >>> from lorascope.inspect.facts import Facts
        >>> [p.code for p in problems_of(Facts("a", "peft", None, "base", 0, 0, ()))]
        ['no-layers']
    """
    return worst_first(problem for check in CHECKS.values() for problem in check(facts))


def no_layers(facts: Facts) -> Iterator[Problem]:
    """A file without a single factor pair."""
    if not facts.layers and not facts.side:
        yield Problem("no-layers", Severity.ERROR, "It holds no low-rank layer at all.")
    elif not facts.layers:
        yield Problem(
            "no-layers",
            Severity.NOTE,
            f"It holds no low-rank layer, only {count(facts.side, 'tensor')} that are kept as they are.",
        )


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


def blank_layers(facts: Facts) -> Iterator[Problem]:
    """Pairs of zeros on both sides, which no training leaves: only one factor of a pair starts at zero."""
    blank = [layer.name for layer in facts.layers if layer.blank]
    if blank:
        yield Problem(
            "zero-filled",
            Severity.ERROR,
            f"{count(blank, 'layer')} of {len(facts.layers)} hold nothing but zeros, in both factors "
            f"({some(blank)}): the download was probably cut and its room on disk filled with zeros. "
            "Try: download it again, and compare its sha256.",
            tuple(blank),
        )


def zero_layers(facts: Facts) -> Iterator[Problem]:
    """Updates that are exactly zero: B is zero at step 0 of every trainer."""
    zero = [layer.name for layer in facts.layers if layer.norm == 0 and not layer.blank]
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
    high = [x for x in facts.layers if x.n and x.m and x.rank > min(x.n, x.m)]
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
    """What the file cannot tell and what was left: the reader's sentences under their own codes."""
    for sentence in (*facts.left, *facts.ambiguities):
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
        known = facts.family.name
        guess = "." if known == "unknown" else f"; names and shapes are those of {known}."
        yield Problem(
            "base-unknown", Severity.NOTE, f"The file does not name its base model{guess}"
        )
    active = [key for key, value in facts.config.items() if ACTIVE.search(f"{key} {value}")]
    if active:
        yield Problem(
            "active-metadata",
            Severity.WARNING,
            f"{count(active, 'entry')} of the metadata hold text that a web page, a shell or a terminal would "
            f"run ({some(active)}): show it only escaped.",
        )


CHECKS: dict[str, Callable[[Facts], Iterator[Problem]]] = {
    "no_layers": no_layers,
    "not_finite": not_finite,
    "blank_layers": blank_layers,
    "zero_layers": zero_layers,
    "dead_ranks": dead_ranks,
    "rank_above_layer": rank_above_layer,
    "absurd_scale": absurd_scale,
    "absurd_norm": absurd_norm,
    "config_contradicts": config_contradicts,
    "rank_contradicts": rank_contradicts,
    "alpha_contradicts": alpha_contradicts,
    "base_contradicts": base_contradicts,
    "uncertain": uncertain,
    "noted": noted,
}


def holds(name: str, target: str) -> bool:
    """Whether PEFT's rule of names takes the layer for the target."""
    return name == target or name.endswith(f".{target}")
