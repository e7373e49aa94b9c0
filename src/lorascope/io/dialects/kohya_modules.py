"""Which modules a LoRA is in kohya's grammar: the spelling of sd-scripts and musubi-tuner by architecture.

    SD1, SD2       lora_unet_down_blocks_..            lora_te_..
    SDXL           lora_unet_input_blocks_..           lora_te1_..  lora_te2_..
    SD3            lora_unet_joint_blocks_..  (fused)  lora_te1_..  lora_te2_..  lora_te3_..
    Flux           lora_unet_double_blocks_.. (fused)  lora_te1_..  lora_te3_..
    Wan, Anima     lora_unet_blocks_..
    Qwen-Image     lora_unet_transformer_blocks_..
    others, and what cannot be fused without loss      lora_transformer_..      OneTrainer's

Fused matrices are put together from pairs of one rank and scale; a part that the LoRA lacks is zeros there, and
named in the metadata (`ABSENT`), so that it is not there when the file is read again. Source: sd-scripts
48d368fa, networks/lora_flux.py, lora_sd3.py, convert_flux_lora.py; musubi-tuner, networks/.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from lorascope.core import LoRA, LowRank, Scale, Update
from lorascope.errors import FormatError
from lorascope.io.layout import fuse, turn
from lorascope.io.names import Namer, Place, architecture_of, originals, to_sgm

__all__ = ["ABSENT", "Module", "modules_of"]

ABSENT = "lorascope.absent"
SDXL_CONTEXT = 2048  # inputs of its cross attention


class Module:
    """One module of a file: the layers that it is, and the factors of all of them.

    Args:
        place: its layers, with their component.
        update: None where only side tensors belong to it.
        scale: the scale of the update.
        absent: layers that are zeros.
    """

    def __init__(
        self,
        place: Place,
        update: Update | None = None,
        scale: Scale | None = None,
        absent: tuple[str, ...] = (),
    ) -> None:
        self.place, self.update, self.scale, self.absent = place, update, scale, absent


def modules_of(lora: LoRA, beside: Iterable[str]) -> dict[str, Module]:
    """The modules of a file by their flattened names.

    Args:
        lora: its layers.
        beside: layers that side tensors belong to.

    Raises:
        FormatError: a name has no spelling that reads back as it.
    """
    sides = set(beside)
    names = list(dict.fromkeys([*lora, *sides]))
    inner = [name.removeprefix("transformer.") for name in names if name.startswith("transformer.")]
    architecture = architecture_of(inner, lambda path: _width(lora, f"transformer.{path}"))
    fused = _fused(lora, inner, architecture, sides)
    rest = [name for name in names if not (fused and name.startswith("transformer."))]
    flat = {_flat(name, _family(lora, names, architecture)): name for name in rest}
    found = {
        module: Module(Place((name,)), lora.layers.get(name), lora.provenance.scales.get(name))
        for module, name in flat.items()
    }
    found |= fused
    _check(found)
    return found


def _family(lora: LoRA, names: Iterable[str], architecture: str | None) -> str:
    """What decides the names of the text encoders and of the UNet."""
    if architecture in ("flux", "sd3"):
        return architecture
    text = "\n".join(names)
    if "transformer." in text and "unet." not in text:
        return "transformer"
    declared = str(lora.provenance.config.get("ss_base_model_version", ""))
    deep = ".transformer_blocks.1." in text or "text_encoder_2." in text or "sdxl" in declared
    wide = any(
        _width(lora, name) == SDXL_CONTEXT for name in lora.layers if name.endswith("attn2.to_k")
    )
    return "sdxl" if deep or wide else "sd"


def _flat(name: str, family: str) -> str:
    component, _, path = name.partition(".")
    prefix = {
        "unet": "lora_unet",
        "transformer": "lora_transformer",
        "text_encoder": "lora_te" if family == "sd" else "lora_te1",
        "text_encoder_2": "lora_te3" if family == "flux" else "lora_te2",
        "text_encoder_3": "lora_te3",
    }.get(component)
    if prefix is None or not path:
        return name if name.startswith(("lora_", "lycoris_")) else f"?{name}"
    if component == "unet" and family == "sdxl":
        path = to_sgm(path) or path
    return f"{prefix}_{path.replace('.', '_')}"


def _fused(
    lora: LoRA, paths: list[str], architecture: str | None, sides: set[str]
) -> dict[str, Module]:
    """The modules of a transformer whose table is known; empty where one of them would lose something."""
    if architecture == "qwen":
        return {
            f"lora_unet_{path.replace('.', '_')}": _module(lora, Place((f"transformer.{path}",)))
            for path in paths
        }
    places = originals(paths, architecture) if architecture else None
    found: dict[str, Module] = {}
    for path, place in (places or {}).items():
        place = replace(place, names=tuple(f"transformer.{name}" for name in place.names))
        plain = len(place.names) == 1 and not place.swap
        if not plain and sides & set(place.names):
            return {}
        module = _module(lora, place) if len(place.names) == 1 else _join(lora, place)
        if module is None:
            return {}
        found[f"lora_unet_{path.replace('.', '_')}"] = module
    return found


def _module(lora: LoRA, place: Place) -> Module:
    name = place.names[0]
    update = lora.layers.get(name)
    update = turn(update) if update is not None and place.swap else update
    return Module(place, update, lora.provenance.scales.get(name))


def _join(lora: LoRA, place: Place) -> Module | None:
    """The parts of a fused matrix as one; None if they differ in rank, inputs or scale."""
    updates = {name: lora[name] for name in place.names if name in lora}
    pairs = {name: pair for name, pair in updates.items() if isinstance(pair, LowRank)}
    scales = {lora.provenance.scales.get(name) for name in updates}
    shapes = {(pair.rank, pair.m, pair.kernel) for pair in pairs.values()}
    if len(pairs) < len(updates) or len(shapes) > 1 or len(scales) > 1:
        return None
    first, absent = next(iter(pairs.values())), tuple(n for n in place.names if n not in lora)
    if not first.rank or first.kernel:
        return None
    parts = [pairs.get(name) or _nothing(place, name, first) for name in place.names]
    pair = fuse(parts)
    if place.sizes(*pair.shape) != tuple(part.n for part in parts):
        return None
    return Module(place, pair, _scale(scales.pop(), first.rank, pair.rank), absent)


def _nothing(place: Place, name: str, like: LowRank) -> LowRank:
    """A part that is zeros: as many columns as the others, so that the pieces can be told again."""
    n = 4 * like.m if place.mlp and name == place.names[-1] else like.n
    n = like.m if place.mlp and name != place.names[-1] else n
    return LowRank(like.u.new_zeros(n, like.rank), like.v, like.kernel)


def _scale(scale: Scale | None, rank: int, fused: int) -> Scale | None:
    """The scale of the whole: the factor is alpha/r of a piece, the file divides by the ranks of all."""
    if scale is None or scale.alpha is None or scale.rank != rank or scale.rule != "alpha/r":
        return scale
    return replace(scale, alpha=scale.alpha * (fused // rank), rank=fused)


def _width(lora: LoRA, name: str) -> int:
    return lora[name].m if name in lora else 0


def _check(modules: Mapping[str, Module]) -> None:
    """Raises FormatError for a module that would not be read as its layers."""
    namer = Namer.of(modules)
    for flat, module in modules.items():
        place = namer.place(flat)
        if place.names != module.place.names or place.swap != module.place.swap:
            raise FormatError(
                f"Writing layer {module.place.names[0]!r} as kohya: no prefix stands for its component, or its "
                "underscores could not be undone. Try: format='peft'."
            )
