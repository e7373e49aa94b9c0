"""Sizes of decoder-only language models whose layers carry the names of Llama's: what tells them apart.

    model.layers.N.self_attn.{q,k,v,o}_proj    model.layers.N.mlp.{gate,up,down}_proj

Names are shared by dozens of models, so that the widths decide: of the hidden state, of q (heads times head
size), of k and v, of the MLP, and the number of blocks. Models of the same widths stay alike. Sources: the
config.json of each model.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["MODELS", "Widths", "match_sizes"]


class Widths(NamedTuple):
    """What a model's layers measure."""

    hidden: int
    query: int
    key: int
    inner: int
    blocks: int


# model -> family and widths; several names in one cell are models of the same sizes
MODELS: Mapping[str, tuple[str, Widths]] = {
    "Llama-1/2-7B": ("Llama", Widths(4096, 4096, 4096, 11008, 32)),
    "Llama-1/2-13B": ("Llama", Widths(5120, 5120, 5120, 13824, 40)),
    "Llama-1-30B": ("Llama", Widths(6656, 6656, 6656, 17920, 60)),
    "Llama-1-65B": ("Llama", Widths(8192, 8192, 8192, 22016, 80)),
    "Llama-2/3-70B": ("Llama", Widths(8192, 8192, 1024, 28672, 80)),
    "Llama-3-8B": ("Llama", Widths(4096, 4096, 1024, 14336, 32)),
    "Llama-3.2-1B": ("Llama", Widths(2048, 2048, 512, 8192, 16)),
    "Llama-3.2-3B": ("Llama", Widths(3072, 3072, 1024, 8192, 28)),
    "Llama-3.1-405B": ("Llama", Widths(16384, 16384, 1024, 53248, 126)),
    "TinyLlama-1.1B": ("Llama", Widths(2048, 2048, 256, 5632, 22)),
    "SmolLM2-135M": ("Llama", Widths(576, 576, 192, 1536, 30)),
    "SmolLM2-360M": ("Llama", Widths(960, 960, 320, 2560, 32)),
    "SmolLM2-1.7B": ("Llama", Widths(2048, 2048, 2048, 8192, 24)),
    "Yi-6B": ("Yi", Widths(4096, 4096, 512, 11008, 32)),
    "Yi-34B": ("Yi", Widths(7168, 7168, 1024, 20480, 60)),
    "Mistral-7B": ("Mistral", Widths(4096, 4096, 1024, 14336, 32)),
    "Mistral-Nemo-12B": ("Mistral", Widths(5120, 4096, 1024, 14336, 40)),
    "Mistral-Small-24B": ("Mistral", Widths(5120, 4096, 1024, 32768, 40)),
    "Qwen1.5/2/2.5-0.5B": ("Qwen2", Widths(896, 896, 128, 4864, 24)),
    "Qwen2/2.5-1.5B": ("Qwen2", Widths(1536, 1536, 256, 8960, 28)),
    "Qwen2.5-3B": ("Qwen2", Widths(2048, 2048, 256, 11008, 36)),
    "Qwen2/2.5-7B": ("Qwen2", Widths(3584, 3584, 512, 18944, 28)),
    "Qwen2.5-14B": ("Qwen2", Widths(5120, 5120, 1024, 13824, 48)),
    "Qwen2.5-32B": ("Qwen2", Widths(5120, 5120, 1024, 27648, 64)),
    "Qwen2/2.5-72B": ("Qwen2", Widths(8192, 8192, 1024, 29568, 80)),
    "Qwen3-0.6B": ("Qwen3", Widths(1024, 2048, 1024, 3072, 28)),
    "Qwen3-1.7B": ("Qwen3", Widths(2048, 2048, 1024, 6144, 28)),
    "Qwen3-4B": ("Qwen3", Widths(2560, 4096, 1024, 9728, 36)),
    "Qwen3-8B": ("Qwen3", Widths(4096, 4096, 1024, 12288, 36)),
    "Qwen3-14B": ("Qwen3", Widths(5120, 5120, 1024, 17408, 40)),
    "Qwen3-32B": ("Qwen3", Widths(5120, 8192, 1024, 25600, 64)),
    "Gemma-2B": ("Gemma", Widths(2048, 2048, 256, 16384, 18)),
    "Gemma-7B": ("Gemma", Widths(3072, 4096, 4096, 24576, 28)),
    "Gemma-2-2B": ("Gemma", Widths(2304, 2048, 1024, 9216, 26)),
    "Gemma-2-9B": ("Gemma", Widths(3584, 4096, 2048, 14336, 42)),
    "Gemma-2-27B": ("Gemma", Widths(4608, 4096, 2048, 36864, 46)),
    "Gemma-3-1B": ("Gemma", Widths(1152, 1024, 256, 6912, 26)),
    "Gemma-3-4B": ("Gemma", Widths(2560, 2048, 1024, 10240, 34)),
    "Gemma-3-12B": ("Gemma", Widths(3840, 4096, 2048, 15360, 48)),
    "Gemma-3-27B": ("Gemma", Widths(5376, 4096, 2048, 21504, 62)),
}

# the last word of a layer's name -> what its n and its m measure
MEASURES: Mapping[str, tuple[str, str]] = {
    "q_proj": ("query", "hidden"),
    "k_proj": ("key", "hidden"),
    "v_proj": ("key", "hidden"),
    "o_proj": ("hidden", "query"),
    "gate_proj": ("inner", "hidden"),
    "up_proj": ("inner", "hidden"),
    "down_proj": ("hidden", "inner"),
}


def match_sizes(layers: Iterable[tuple[int, str, int, int]]) -> tuple[str, ...]:
    """The models that no layer contradicts.

    Args:
        layers: for each the number of its block, the last word of its name, n and m.

    Example:
        >>> match_sizes([(27, "q_proj", 1536, 1536), (0, "k_proj", 256, 1536)])
        ('Qwen2/2.5-1.5B',)
    """
    facts: set[tuple[str, int]] = set()
    blocks = 0
    for block, word, n, m in layers:
        if word in MEASURES:
            facts.update(zip(MEASURES[word], (n, m), strict=True))
            blocks = max(blocks, block + 1)
    if not facts:
        return ()
    return tuple(
        model
        for model, (_, widths) in MODELS.items()
        if blocks <= widths.blocks and all(getattr(widths, what) == size for what, size in facts)
    )
