"""What is timed: a base, its standard evaluation, and the layers and rank of its adapters.

(a) the bundled bases as they are; (b) the shapes of the paper's bases with random weights. Adapters of
images have to_q and to_v of the UNet, of language k and v (the paper's); rank 4.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lorascope.core import LayerShape, Signature
from speed.clock import Clock
from speed.standard import Standard
from speed.standard_images import MINIATURE as SMALL_IMAGES
from speed.standard_images import STABLE_DIFFUSION, ImageShape, image_standard, unet_layers
from speed.standard_language import LLAMA, QWEN, LanguageShape, language_standard
from speed.standard_language import MINIATURE as SMALL_LANGUAGE
from speed.standard_tiny import exam_model, exam_standard, faces_standard

__all__ = ["MINIATURES", "PARTS", "WORKLOADS", "Workload"]

RANK = 4

#: What is measured in one go, a few minutes each, and the workloads of each part; `reading` has none.
PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "tiny": ("exam", "faces"),
        "sd14": ("sd14",),
        "qwen": ("qwen",),
        "llama": ("llama",),
        "reading": (),
    }
)


@dataclass(frozen=True)
class Workload:
    """One base. Ratios are taken to the cheapest of its standard evaluations."""

    title: str
    evaluate: Callable[[Clock], list[Standard]]
    signature: Callable[[], Signature]
    rank: int = RANK


def signature_of(layers: list[tuple[str, int, int]]) -> Signature:
    """A signature of (name, n, m)."""
    return Signature(tuple(LayerShape(*layer) for layer in layers))


def exam_signature() -> Signature:
    """k and v of the tiny Qwen2."""
    modules = exam_model().named_modules()
    ours = [(name, module) for name, module in modules if name.endswith(("k_proj", "v_proj"))]
    return signature_of([(name, m.out_features, m.in_features) for name, m in ours])


def faces_signature() -> Signature:
    """to_q and to_v of the tiny Stable Diffusion."""
    from lorascope.zoo.bases.faces.folder import load_faces

    modules = load_faces().unet.named_modules()
    ours = [(name, module) for name, module in modules if name.endswith(("to_q", "to_v"))]
    return signature_of([(f"unet.{name}", m.out_features, m.in_features) for name, m in ours])


def of_images(shape: ImageShape) -> Workload:
    """Adapters of to_q and to_v."""
    return Workload(
        f"{shape.name}, random weights",
        lambda clock: image_standard(clock, shape),
        lambda: signature_of(unet_layers(shape, ("to_q", "to_v"))),
    )


def of_language(shape: LanguageShape, width: int) -> Workload:
    """Adapters of k_proj and v_proj, which have `width` outputs."""
    return Workload(
        f"{shape.name}, random weights",
        lambda clock: language_standard(clock, shape),
        lambda: signature_of(shape.layers({"k_proj": width, "v_proj": width})),
    )


WORKLOADS: Mapping[str, Workload] = MappingProxyType(
    {
        "exam": Workload(
            "exam-qwen, bundled", lambda clock: [exam_standard(clock)], exam_signature
        ),
        "faces": Workload("faces, bundled", lambda clock: [faces_standard(clock)], faces_signature),
        "sd14": of_images(STABLE_DIFFUSION),
        "qwen": of_language(QWEN, 256),
        "llama": of_language(LLAMA, 1024),
    }
)
#: Of the same code paths, small enough to see that all works.
MINIATURES: Mapping[str, Workload] = MappingProxyType(
    {
        "exam": WORKLOADS["exam"],
        "faces": WORKLOADS["faces"],
        "sd14": of_images(SMALL_IMAGES),
        "qwen": of_language(SMALL_LANGUAGE, 16),
        "llama": of_language(SMALL_LANGUAGE, 16),
    }
)
