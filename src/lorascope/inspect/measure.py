"""Facts of a `LoRA`, measured: norms and spectra of all layers of one rank at once.

The spectrum of u v^T comes from r x r matrices: with G_u = u^T u and G_v = v^T v in float64 and G_u = L L^T,
the squared singular values are the eigenvalues of L^T G_v L. That squares the condition number, which float64
affords: values down to 1e-7 of the largest are right, and below that all are "dead".

    G_u, G_v: (l, r, r)    spectra: (l, r), of which a layer has min(n, m, r)
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from lorascope.core.lora import LoRA
from lorascope.core.low_rank import LowRank
from lorascope.inspect.facts import Facts, LayerFacts, SideFacts
from lorascope.inspect.families import family_of
from lorascope.inspect.training import training_of

__all__ = ["facts_of"]

DEAD = 1e-4  # a singular value below this share of the layer's largest carries under 1e-8 of its energy
CHUNK_BYTES = 1 << 26  # float64 copies of the factors are made in pieces of this size


def facts_of(lora: LoRA) -> Facts:
    """Collect the facts of a LoRA, all layers of one rank at once.

    Example:
        >>> facts_of(LoRA({"q": LowRank(torch.eye(4)[:, :2], torch.eye(6)[:, :2])})).layers[0].rank
        2
    """
    origin = lora.provenance
    measured: dict[str, LayerFacts] = {}
    for names in rank_groups(lora):
        measured.update(layer_facts(lora, names))
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
        notes=origin.notes,
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


def rank_groups(lora: LoRA) -> Iterable[list[str]]:
    """Names of layers whose r x r matrices can be stacked."""
    groups: dict[tuple[int, torch.device], list[str]] = {}
    for name, pair in lora.layers.items():
        groups.setdefault((pair.rank, pair.device), []).append(name)
    return groups.values()


def layer_facts(lora: LoRA, names: list[str]) -> dict[str, LayerFacts]:
    """Facts of layers that share one rank."""
    pairs = [lora.layers[name] for name in names]
    spectra, finite = stacked_spectra(pairs)
    norms = spectra.square().sum(dim=1).sqrt()
    shares = spectra / spectra.sum(dim=1, keepdim=True)
    effective = torch.special.entr(shares.nan_to_num(0)).sum(dim=1).exp() * (norms > 0)
    alive = (spectra > DEAD * spectra[:, :1]).sum(dim=1)
    rows = zip(
        names, pairs, spectra.tolist(), finite.tolist(), norms.tolist(), effective.tolist(), alive.tolist(),
        strict=True,
    )  # fmt: skip
    return {
        name: LayerFacts(
            name=name,
            n=pair.n,
            m=pair.m,
            rank=pair.rank,
            dtype=dtype_name(pair.dtype),
            kernel=pair.kernel,
            scale=lora.provenance.scales.get(name),
            finite=good,
            norm=norm if good else None,
            spectrum=tuple(spectrum[: min(pair.shape)]) if good else None,
            effective_rank=entropy if good else None,
            dead_ranks=pair.rank - living if good else 0,
        )
        for name, pair, spectrum, good, norm, entropy, living in rows
    }


def stacked_spectra(pairs: list[LowRank]) -> tuple[Tensor, Tensor]:  # (l, r), (l,)
    """Singular values, descending, and whether they are finite numbers; zeros where they are not."""
    gram_u, gram_v = (
        grams([pair.u for pair in pairs]),
        grams([pair.v for pair in pairs]),
    )  # (l, r, r)
    # balance the columns first: a gauge that puts all size into one factor costs no precision then
    size = gram_u.diagonal(dim1=1, dim2=2).sqrt()  # (l, r)
    ratio = torch.where(size > 0, 1 / size, 0.0)
    gram_u = ratio[:, :, None] * gram_u * ratio[:, None, :]
    gram_v = size[:, :, None] * gram_v * size[:, None, :]
    finite = gram_u.isfinite().flatten(1).all(1) & gram_v.isfinite().flatten(1).all(1)
    finite &= size.isfinite().all(1)
    gram_u = torch.where(finite[:, None, None], gram_u, 0.0)
    gram_v = torch.where(finite[:, None, None], gram_v, 0.0)
    root = square_root(gram_u)
    squares = torch.linalg.eigvalsh(root.mT @ gram_v @ root).clamp(min=0)
    return squares.flip(1).sqrt(), finite


def square_root(gram: Tensor) -> Tensor:  # (l, r, r) -> (l, r, r)
    """L with gram = L L^T, for gram of unit diagonal: by Cholesky, 14 times as fast as by eigenvectors.

    Dependent columns have none: they get a ridge of r 1e-15, which moves singular values by less than 1e-6 of
    the largest, below what counts as dead; and eigenvectors where that does not help either.
    """
    root, failed = torch.linalg.cholesky_ex(gram)
    if failed.any():
        rank = gram.shape[1]
        ridge = 1e-15 * rank * torch.eye(rank, dtype=gram.dtype, device=gram.device)
        root[failed > 0], still = torch.linalg.cholesky_ex(gram[failed > 0] + ridge)
        failed[failed > 0] = still
    if failed.any():
        values, vectors = torch.linalg.eigh(gram[failed > 0])
        root[failed > 0] = vectors * values.clamp(min=0).sqrt()[:, None, :]
    return root


def grams(factors: list[Tensor]) -> Tensor:  # l times (n, r) -> (l, r, r)
    """f^T f of each factor in float64, those of one width and layout at once, in pieces of bounded memory."""
    rank = factors[0].shape[1]
    found = factors[0].new_zeros((len(factors), rank, rank), dtype=torch.float64)
    alike: dict[tuple[object, ...], list[int]] = {}
    for place, factor in enumerate(factors):
        # a reader's v is a view of (r, m): stacked as it lies, it is copied row by row
        key = (factor.shape[0], factor.dtype, factor.is_contiguous())
        alike.setdefault(key, []).append(place)
    for (_, _, upright), places in alike.items():
        step = max(1, CHUNK_BYTES // max(8 * factors[places[0]].numel(), 1))
        for start in range(0, len(places), step):
            piece = places[start : start + step]
            if upright:
                stack = torch.stack([factors[place] for place in piece]).double()
                found[piece] = stack.mT @ stack
            else:
                stack = torch.stack([factors[place].mT for place in piece]).double()
                found[piece] = stack @ stack.mT
    return found


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
