"""The standard evaluation at the shapes of Qwen2-1.5B and Llama-3.2-3B, random weights: 1,172 questions.

    by options   the question, 34 tokens, once; then each of four options, 6 tokens, on its keys and values
    by letters   the question with its four options, 63 tokens; log-likelihood of the letter that follows

The first is how ARC is usually scored. Both are at their best: what options share is computed once, nothing is
padded, the last token of a row is looked up and not put through. Ratios are taken to the cheaper of the two. A
GPU runs all questions in both half precisions. A CPU runs one batch through 4 blocks in each type, then one
through the whole model in the faster, a batch size after another, and adds up: every batch costs the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from speed.clock import Clock
from speed.random_weights import made_in
from speed.standard import (
    Part,
    Standard,
    climbed,
    fastest,
    free_bytes,
    trial,
    type_name,
    types_of,
)

__all__ = ["LLAMA", "MINIATURE", "QWEN", "LanguageShape", "Protocol", "asking", "language_standard"]

TRIAL_BLOCKS = 4  # that types are compared on


@dataclass(frozen=True)
class Protocol:
    """How a question is asked: tokens that are put through once, and those of each answer that is scored."""

    name: str
    shared: int  # tokens of a question
    answers: int
    tokens: int  # of an answer


OPTIONS = Protocol("by options", shared=34, answers=4, tokens=6)
LETTERS = Protocol("by letters", shared=63, answers=1, tokens=1)


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


#: Questions at once: three are tried, from the middle on.
BATCHES = {"cpu": (4, 8, 16, 32, 64), "cuda": (16, 64, 256, 1024)}
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
    batches={"cpu": (1, 2, 3, 4, 5), "cuda": (1, 2, 3, 4, 5)},
)


def random_model(shape: LanguageShape, device: str, dtype: torch.dtype, blocks: int) -> Any:
    """The model with random weights and as many blocks as are wanted."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(shape.kind, **{**shape.config, "num_hidden_layers": blocks})
    with made_in(device, dtype):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    return model.eval().requires_grad_(False)


def asking(
    model: Any, protocol: Protocol, device: str, batch: int, questions: int
) -> Callable[[], Tensor]:
    """What asks some questions, a batch at a time: the log-likelihood of each answer, (questions, answers)."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.vocab_size

    def tokens(*shape: int) -> Tensor:
        return torch.randint(vocabulary, shape, generator=generator).to(device)

    asked = tokens(questions, protocol.shared)
    answers = tokens(questions, protocol.answers, protocol.tokens)

    def ask() -> Tensor:
        batches = zip(asked.split(batch), answers.split(batch), strict=True)
        return torch.cat([likelihoods(model, *some) for some in batches])

    return ask


def likelihoods(
    model: Any, asked: Tensor, answers: Tensor
) -> Tensor:  # (q, t), (q, a, s) -> (q, a)
    """Log-likelihood of each answer after its question, whose keys and values all its answers share."""
    count, tokens = answers.shape[1:]
    seen = model.model(input_ids=asked, use_cache=tokens > 1)
    # rows of their own: torch copies the whole head for each of a cut-out batch, on a CPU
    first = said(model, seen.last_hidden_state[:, -1].contiguous())  # (q, vocabulary)
    found = first.gather(1, answers[..., 0])
    if tokens == 1:
        return found
    cache = seen.past_key_values
    cache.batch_repeat_interleave(count)
    rows = answers.flatten(0, 1)
    # the last token is only looked up
    after = model.model(input_ids=rows[:, :-1], past_key_values=cache, use_cache=True)
    then = said(model, after.last_hidden_state.flatten(0, 1)).unflatten(0, (len(rows), -1))
    rest = then.gather(2, rows[:, 1:, None]).sum((1, 2))
    return found + rest.unflatten(0, (-1, count))


def said(model: Any, hidden: Tensor) -> Tensor:  # (rows, d) -> (rows, vocabulary)
    """Log-probabilities of the next token."""
    logits: Tensor = model.lm_head(hidden)
    return logits.float().log_softmax(-1)


@torch.inference_mode()
def language_standard(
    clock: Clock, shape: LanguageShape, *, whole: bool | None = None
) -> list[Standard]:
    """The cost of both ways to ask, the cheaper first; measured whole on a GPU, from one batch on a CPU."""
    device = clock.device
    kind = torch.device(device).type
    whole = kind == "cuda" if whole is None else whole
    tried = {} if whole else trial(clock, lambda dtype: few_blocks(shape, device, dtype))
    found: dict[Protocol, list[Standard]] = {OPTIONS: [], LETTERS: []}
    for dtype in types_of(device) if whole else (min(tried, key=lambda key: tried[key]),):
        model = random_model(shape, device, dtype, shape.config["num_hidden_layers"])
        for protocol, ways in found.items():
            ways += tries(clock, shape, protocol, model, whole=whole)
        del model  # before the next is made
    trials = {type_name(dtype): seconds for dtype, seconds in tried.items()}
    best = [fastest(ways, trials) for ways in found.values()]
    return sorted(best, key=lambda standard: standard.seconds)


def tries(
    clock: Clock, shape: LanguageShape, protocol: Protocol, model: Any, *, whole: bool
) -> list[Standard]:
    """The cost of one way to ask, at three batch sizes."""

    def take(batch: int) -> Standard:
        questions = shape.questions if whole else batch
        seconds = clock.seconds(asking(model, protocol, clock.device, batch, questions))
        return counted(shape, protocol, batch, type_name(model.dtype), seconds, whole=whole)

    return climbed(affordable(shape, protocol, model.dtype, clock.device), take)


def few_blocks(shape: LanguageShape, device: str, dtype: torch.dtype) -> Callable[[], Tensor]:
    """A batch of options of middle size through a few blocks: half precision gains by rows."""
    sizes = shape.batches[torch.device(device).type]
    batch = sizes[len(sizes) // 2]
    return asking(random_model(shape, device, dtype, TRIAL_BLOCKS), OPTIONS, device, batch, batch)


def affordable(
    shape: LanguageShape, protocol: Protocol, dtype: torch.dtype, device: str
) -> tuple[int, ...]:
    """The batch sizes whose largest tensors fit into half of the memory that is free; the smallest always."""
    config = shape.config
    room = free_bytes(device) / 2
    rows = protocol.shared + protocol.answers * protocol.tokens  # tokens of a question
    width = 3 * config["intermediate_size"] + 8 * config["hidden_size"]
    # keys and values of all blocks, and their copies
    head = config["hidden_size"] // config["num_attention_heads"]
    kept = 4 * config["num_hidden_layers"] * config["num_key_value_heads"] * head
    told = 1 + protocol.answers * (protocol.tokens - 1)  # rows of logits: the type's, float32 twice
    size = dtype.itemsize
    bytes_each = rows * (width + kept) * size + told * config["vocab_size"] * (size + 8)
    sizes = shape.batches[torch.device(device).type]
    return sizes[:1] + tuple(batch for batch in sizes[1:] if batch * bytes_each <= room)


def counted(
    shape: LanguageShape,
    protocol: Protocol,
    batch: int,
    dtype: str,
    seconds: float,
    *,
    whole: bool,
) -> Standard:
    """All questions as they were measured, or as many batches as they take."""
    each = f"{protocol.shared} tokens" + (
        f", and {protocol.answers} x {protocol.tokens} on their keys and values"
        if protocol.tokens > 1
        else ""
    )
    what = f"{shape.questions:,} four-option questions {protocol.name}: {each}"
    if whole:
        return Standard(what, seconds, dtype, batch, way=protocol.name)
    part = Part(f"{batch} questions through the whole model", seconds, shape.questions / batch)
    return Standard.added_up(what, dtype, batch, (part,), protocol.name)
