"""The standard evaluation at the shapes of Qwen2-1.5B and Llama-3.2-3B, random weights: 1,172 questions.

    by options   each of four options after its question, as a row of 40 tokens; log-likelihood of its last 6
    by letters   the question with its four options, as a row of 64 tokens; log-likelihood of A, B, C, D

The first is how ARC is usually scored, the second the cheapest way there is; nothing is padded in either. A GPU
runs all rows in both half precisions. A CPU runs one batch through 4 blocks in each type, then one through the
whole model in the faster, a batch size after another, and adds up: every batch costs the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from speed.clock import Clock
from speed.random_weights import made_in
from speed.standard import Part, Standard, fastest, trial, type_name, types_of

__all__ = ["LLAMA", "MINIATURE", "QWEN", "LanguageShape", "Protocol", "language_standard"]

TRIAL_BLOCKS = 4  # that types are compared on


@dataclass(frozen=True)
class Protocol:
    """How a question becomes rows."""

    name: str
    rows: int  # a question
    tokens: int  # a row
    scored: int  # tokens at the end whose likelihood is asked


OPTIONS = Protocol("by options", rows=4, tokens=40, scored=6)
LETTERS = Protocol("by letters", rows=1, tokens=64, scored=1)


@dataclass(frozen=True)
class LanguageShape:
    """The configuration of a causal language model, and what is asked of it."""

    name: str
    kind: str
    config: Mapping[str, Any]
    questions: int
    batches: Mapping[str, tuple[int, ...]]

    def layers(self, targets: Mapping[str, int]) -> list[tuple[str, int, int]]:
        """(name, n, m) of the projections of all blocks; `targets` gives their output widths."""
        return [
            (f"model.layers.{block}.self_attn.{name}", n, self.config["hidden_size"])
            for block in range(self.config["num_hidden_layers"])
            for name, n in targets.items()
        ]


BATCHES = {"cpu": (2, 4, 8), "cuda": (64, 256, 1024)}  # rows
QWEN = LanguageShape(
    name="Qwen2-1.5B",
    kind="qwen2",
    config={
        "vocab_size": 151_936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    questions=1172,
    batches=BATCHES,
)
LLAMA = LanguageShape(
    name="Llama-3.2-3B",
    kind="llama",
    config={
        "vocab_size": 128_256,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
    questions=1172,
    batches=BATCHES,
)
MINIATURE = LanguageShape(
    name="a miniature of Llama",
    kind="llama",
    config={
        "vocab_size": 128,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    questions=5,
    batches={"cpu": (2, 4, 8), "cuda": (2, 4, 8)},
)


def random_model(shape: LanguageShape, device: str, dtype: torch.dtype, blocks: int) -> Any:
    """The model with random weights and as many blocks as are wanted."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(shape.kind, **{**shape.config, "num_hidden_layers": blocks})
    with made_in(device, dtype):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    return model.eval().requires_grad_(False)


def asking(
    model: Any, protocol: Protocol, device: str, batch: int, rows: int
) -> Callable[[], Tensor]:
    """What puts some rows through the model, a batch at a time."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.vocab_size
    tokens = torch.randint(vocabulary, (rows, protocol.tokens), generator=generator).to(device)

    def ask() -> Tensor:
        parts = []
        for some in tokens.split(batch):
            seen = model.model(input_ids=some, use_cache=False).last_hidden_state
            # rows of their own: torch copies the whole head for each of a cut-out batch, on a CPU
            ends = seen[:, -protocol.scored - 1 : -1].flatten(0, 1)
            said = model.lm_head(ends).float().log_softmax(-1).unflatten(0, (len(some), -1))
            told = some[:, -protocol.scored :, None]
            parts.append(said.gather(2, told).sum((1, 2)))
        return torch.cat(parts)

    return ask


@torch.inference_mode()
def language_standard(
    clock: Clock, shape: LanguageShape, *, whole: bool | None = None
) -> list[Standard]:
    """The cost of both ways to ask, measured whole on a GPU and from one batch on a CPU."""
    kind = torch.device(clock.device).type
    whole = kind == "cuda" if whole is None else whole
    tried = {} if whole else trial(clock, lambda dtype: few_blocks(shape, clock.device, dtype))
    found: dict[Protocol, list[Standard]] = {OPTIONS: [], LETTERS: []}
    for dtype in types_of(clock.device) if whole else (min(tried, key=lambda key: tried[key]),):
        model = random_model(shape, clock.device, dtype, shape.config["num_hidden_layers"])
        for protocol, ways in found.items():
            for batch in shape.batches[kind]:
                rows = shape.questions * protocol.rows
                seconds = clock.seconds(
                    asking(model, protocol, clock.device, batch, rows if whole else batch)
                )
                ways.append(counted(shape, protocol, batch, type_name(dtype), seconds, whole=whole))
        del model  # before the next is made
    trials = {type_name(dtype): seconds for dtype, seconds in tried.items()}
    return [fastest(ways, trials) for ways in found.values()]


def few_blocks(shape: LanguageShape, device: str, dtype: torch.dtype) -> Callable[[], Tensor]:
    """The largest batch of options through a few blocks: half precision gains by rows."""
    batch = max(shape.batches[torch.device(device).type])
    return asking(random_model(shape, device, dtype, TRIAL_BLOCKS), OPTIONS, device, batch, batch)


def counted(
    shape: LanguageShape,
    protocol: Protocol,
    batch: int,
    dtype: str,
    seconds: float,
    *,
    whole: bool,
) -> Standard:
    """All rows as they were measured, or as many batches as they take."""
    rows = shape.questions * protocol.rows
    what = (
        f"{shape.questions:,} four-option questions {protocol.name}: {rows:,} rows of "
        f"{protocol.tokens} tokens"
    )
    if whole:
        return Standard(what, seconds, dtype, batch)
    part = Part(f"{batch} rows through the whole model", seconds, rows / batch)
    return Standard.added_up(what, dtype, batch, (part,))
