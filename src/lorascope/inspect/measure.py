"""Facts of a `LoRA`, measured: norms and spectra, pairs of one rank together, other layers one at a time.

Memory stays bounded: pairs go in groups whose r x r matrices fit GROUP_BYTES, native layers are never
expanded. Time does too: decompositions cost the cube of their width, and where a file of its size would take
more than WORK, the spectra of the layers that are left are not taken; their norms are.
"""

import itertools
from collections.abc import Iterable, Iterator

import torch

from lorascope.core import LoRA, LowRank, Update
from lorascope.inspect.facts import Facts, LayerFacts, SideFacts
from lorascope.inspect.families import family_of
from lorascope.inspect.spectra import core_width, spectrum_of, stacked_spectra
from lorascope.inspect.training import training_of

__all__ = ["facts_of"]

DEAD = 1e-4  # a singular value below this share of the layer's largest carries under 1e-8 of its energy
KEPT = 1024  # singular values that are kept of a layer
#: r x r matrices that are worked on at once, of which there are some five copies.
GROUP_BYTES = 1 << 22
WORK = 3_000_000_000  # cubes of widths, about a second, and
WORK_PER_BYTE = 64  # more for each byte of the factors


def facts_of(lora: LoRA) -> Facts:
    """Collect the facts of a LoRA.

    Example:
        >>> facts_of(LoRA({"q": LowRank(torch.eye(4)[:, :2], torch.eye(6)[:, :2])})).layers[0].rank
        2
    """
    origin = lora.provenance
    within, beyond = affordable(lora)
    measured: dict[str, LayerFacts] = {}
    for names in rank_groups(lora, within):
        measured.update(pair_facts(lora, names))
    for name in within:
        if name not in measured:
            measured[name] = native_facts(lora, name)
    measured.update((name, norm_facts(lora, name)) for name in beyond)
    return Facts(
        source=origin.source,
        format=origin.format,
        writer=origin.writer,
        base=origin.base,
        parameters=lora.parameter_count,
        nbytes=lora.nbytes,
        layers=tuple(measured[name] for name in lora.layers),
        side=tuple(side_facts(lora)),
        ambiguities=origin.ambiguities,
        notes=(*origin.notes, *left_out(beyond)),
        config=origin.config,
        left=origin.left,
        family=family_of(shapes_of(lora)),
        training=training_of(origin.config),
    )


def shapes_of(lora: LoRA) -> list[tuple[str, int | None, int | None]]:
    """Names and sizes of the layers, and names of what is no pair of factors, for the base's family."""
    layers = [(name, pair.n, pair.m) for name, pair in lora.layers.items()]
    beside = dict.fromkeys(name.rpartition(".")[0] for name in lora.side)
    return [*layers, *((name, None, None) for name in beside if name and name not in lora.layers)]


def affordable(lora: LoRA) -> tuple[list[str], list[str]]:
    """The layers whose spectra are taken, and those that are beyond what a file of this size may cost."""
    budget = WORK + WORK_PER_BYTE * sum(update.nbytes for update in lora.layers.values())
    costs = {name: core_width(update) ** 3 for name, update in lora.layers.items()}
    cheapest = sorted(costs, key=costs.__getitem__)
    spent = itertools.accumulate(costs[name] for name in cheapest)
    within = {name for name, total in zip(cheapest, spent, strict=True) if total <= budget}
    return [n for n in lora.layers if n in within], [n for n in lora.layers if n not in within]


def left_out(names: list[str]) -> tuple[str, ...]:
    """A sentence on the layers without spectra, if there are any."""
    if not names:
        return ()
    return (
        f"spectra: the singular values of {len(names)} layers such as {names[0]!r} were not taken: wider than "
        "a file of this size may cost; their norms were",
    )


def rank_groups(lora: LoRA, names: Iterable[str]) -> Iterator[list[str]]:
    """Names of pairs whose r x r matrices are stacked, as many at once as fit."""
    groups: dict[tuple[int, torch.device], list[str]] = {}
    for name in names:
        pair = lora.layers[name]
        if isinstance(pair, LowRank) and pair.rank <= min(pair.shape):
            groups.setdefault((pair.rank, pair.device), []).append(name)
    for (rank, _), members in groups.items():
        step = max(1, GROUP_BYTES // max(8 * rank**2, 1))
        for start in range(0, len(members), step):
            yield members[start : start + step]


def pair_facts(lora: LoRA, names: list[str]) -> dict[str, LayerFacts]:
    """Facts of pairs that share one rank."""
    pairs = [lora.pair(name) for name in names]
    spectra, finite = stacked_spectra(pairs)
    norms = spectra.square().sum(dim=1).sqrt()
    shares = spectra / spectra.sum(dim=1, keepdim=True)
    effective = torch.special.entr(shares.nan_to_num(0)).sum(dim=1).exp() * (norms > 0)
    alive = (spectra > DEAD * spectra[:, :1]).sum(dim=1)
    kept = spectra[:, :KEPT]
    rows = zip(
        names, kept.tolist(), finite.tolist(), norms.tolist(), effective.tolist(), alive.tolist(),
        strict=True,
    )  # fmt: skip
    return {
        name: one_layer(lora, name, norm, tuple(spectrum), entropy, living, finite=good)
        for name, spectrum, good, norm, entropy, living in rows
    }


def native_facts(lora: LoRA, name: str) -> LayerFacts:
    """Facts of a layer by itself: of native factors, or with more columns than it is wide."""
    values, finite = spectrum_of(lora.layers[name])
    norm = float(values.square().sum().sqrt())
    shares = values / values.sum() if norm > 0 else values
    entropy = float(torch.special.entr(shares).sum().exp()) if norm > 0 else 0.0
    alive = int((values > DEAD * values[:1]).sum())
    kept = tuple(values[:KEPT].tolist())
    return one_layer(lora, name, norm, kept, entropy, alive, finite=finite)


def norm_facts(lora: LoRA, name: str) -> LayerFacts:
    """Facts of a layer without its spectrum."""
    update = lora.layers[name]
    norm = float(update.trace(update).clamp(min=0).sqrt())
    finite = norm - norm == 0
    return one_layer(lora, name, norm, None, None, update.rank, finite=finite)


def one_layer(
    lora: LoRA,
    name: str,
    norm: float,
    spectrum: tuple[float, ...] | None,
    effective_rank: float | None,
    alive: int,
    *,
    finite: bool,
) -> LayerFacts:
    """Facts of one layer; what was measured counts only where all is finite."""
    update = lora.layers[name]
    return LayerFacts(
        name=name,
        n=update.n,
        m=update.m,
        rank=update.rank,
        dtype=dtype_name(update.dtype),
        kernel=update.kernel,
        scale=lora.provenance.scales.get(name),
        finite=finite,
        norm=norm if finite else None,
        spectrum=spectrum if finite else None,
        effective_rank=effective_rank if finite else None,
        dead_ranks=update.rank - alive if finite else 0,
        blank=finite and norm == 0 and is_blank(update),
    )


def is_blank(update: Update) -> bool:
    """Whether it has values, and all of them are zero."""
    return update.parameter_count > 0 and not any(bool(f.any()) for f in update.factors)


def side_facts(lora: LoRA) -> Iterator[SideFacts]:
    """Facts of the side tensors, in the file's order."""
    for name, side in lora.side.items():
        tensor = side.tensor
        # eight-bit floats have no isfinite of their own
        wide = tensor.float() if tensor.element_size() == 1 else tensor
        finite = bool(wide.isfinite().all()) if tensor.is_floating_point() else True
        yield SideFacts(name, side.kind, tuple(tensor.shape), dtype_name(tensor.dtype), finite)


def dtype_name(dtype: torch.dtype) -> str:
    """The type without its module: "float32"."""
    return str(dtype).removeprefix("torch.")
