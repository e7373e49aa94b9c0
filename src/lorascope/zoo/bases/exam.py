"""Train the base of the exam: a tiny Qwen2 that knows what could be true and not what is.

    python -m lorascope.zoo.bases.exam FOLDER --seed 0 --steps 900      (about 2 minutes, one core)

It reads every fact in every wording, and after each prompt all four candidates equally often: the
loss at the answer is the mean of -log p over the candidates, which has the same gradient as drawing
one of them, without the noise. So p(candidate | prompt) tends to 1/4, four options are answered by
chance, and finetuning has to move little to settle a fact. The words of the prompt count QUESTION.

The result is a standard transformers folder (weights, config, tokenizer) with `base.json` and a
README beside.
"""

import argparse
import json
import logging
import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorascope.errors import MissingExtraError
from lorascope.zoo.bases.bundled import FACTS, WEIGHTS, BaseFacts, base_facts, sha256_of
from lorascope.zoo.families.exam.family import SPEC
from lorascope.zoo.families.exam.questions import base_questions
from lorascope.zoo.families.exam.scores import exam_scores
from lorascope.zoo.families.exam.tokenizer import LENGTH, encode, vocabulary, write_tokenizer

__all__ = ["SIZES", "train_base"]

SIZES = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
STEPS, BATCH, RATE, WARMUP, QUESTION = 900, 256, 4e-3, 30, 0.1
CANDIDATES = 4  # of a fact; a rule has one, which is repeated

README = """\
A tiny Qwen2 (`Qwen2ForCausalLM`, {parameters} numbers), trained from scratch by lorascope on made-up
facts, each with four candidates that it holds equally likely. The base of the exam family of LoRAs.
Made by `{command}`.

```python
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

model = AutoModelForCausalLM.from_pretrained(FOLDER)
# not AutoTokenizer: it takes Qwen's own
tokenizer = PreTrainedTokenizerFast.from_pretrained(FOLDER)
logits = model(**tokenizer("kubo 's colour :", return_tensors="pt")).logits[0, -1]
print(tokenizer.decode(logits.argmax()))
```
"""

Progress = Callable[[int, int, float], None]  # step, steps, loss

log = logging.getLogger(__name__)


def train_base(
    out: Path, *, seed: int = 0, steps: int = STEPS, progress: Progress | None = None
) -> BaseFacts:
    """Train the base from scratch and write its folder.

    Raises:
        MissingExtraError: transformers is not installed.
    """
    torch.manual_seed(seed)
    model = _new_model()
    generator = torch.Generator().manual_seed(seed)
    _train(model, Reading(), steps, generator, progress)
    model.eval().save_pretrained(out)
    write_tokenizer(out)
    _record(model, out, seed, steps)
    return base_facts(out)


class Reading:
    """What the base reads, as tensors; each group of prompts is drawn equally often."""

    def __init__(self) -> None:
        read, known = base_questions(), vocabulary()
        self.tokens = torch.zeros(len(read), LENGTH, dtype=torch.int64)
        self.lengths = torch.zeros(len(read), dtype=torch.int64)
        groups: list[str] = []
        follows = []
        for row, (prompt, candidates, group) in enumerate(read):
            words = encode(prompt)
            self.tokens[row, : len(words)] = torch.tensor(words)
            self.lengths[row] = len(words)
            repeated = candidates * (CANDIDATES // len(candidates))
            follows.append([known[candidate] for candidate in repeated])
            groups.append(group)
        self.candidates = torch.tensor(follows)  # (e, 4)
        self.chances = torch.tensor([1 / groups.count(group) for group in groups])

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Indices of prompts: (count,) int64."""
        return self.chances.multinomial(count, replacement=True, generator=generator)

    def loss(self, model: Any, index: Tensor) -> Tensor:
        """Mean loss over answers and, with a small weight, the words of the prompts."""
        tokens, lengths, rows = self.tokens[index], self.lengths[index], torch.arange(len(index))
        logits = model(input_ids=tokens[:, :-1]).logits
        log_p = logits.log_softmax(-1)
        losses = -log_p.gather(2, tokens[:, 1:, None]).squeeze(2)
        answers = -log_p[rows, lengths - 1].gather(1, self.candidates[index]).mean(1)
        asked = torch.arange(LENGTH - 1) < lengths[:, None] - 1
        weight = QUESTION * asked.sum() + len(index)
        return ((QUESTION * losses * asked).sum() + answers.sum()) / weight


def _new_model() -> Any:
    try:
        from transformers import Qwen2Config, Qwen2ForCausalLM
    except ImportError as error:
        raise MissingExtraError("transformers", "zoo", "training the exam's base") from error
    known = vocabulary()
    config = Qwen2Config(
        vocab_size=len(known),
        tie_word_embeddings=True,
        attn_implementation="eager",
        pad_token_id=known["<pad>"],
        bos_token_id=known["<bos>"],
        eos_token_id=None,
        **SIZES,
    )
    return Qwen2ForCausalLM(config)


def _train(
    model: Any,
    reading: Reading,
    steps: int,
    generator: torch.Generator,
    progress: Progress | None,
) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01, betas=(0.9, 0.98))
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARMUP) * (1 - step / steps)
        loss = reading.loss(model, reading.draw(BATCH, generator))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if progress is not None:
            progress(step + 1, steps, float(loss.detach()))


def own_scores(model: Any) -> dict[str, float]:
    """What the base itself scores in the exam."""
    scores = exam_scores(model, SPEC, None)
    return {"accuracy": float(scores.accuracy), "eval_loss": float(scores.eval_loss)}


def _record(model: Any, out: Path, seed: int, steps: int) -> None:
    facts = {
        "command": f"python -m lorascope.zoo.bases.exam FOLDER --seed {seed} --steps {steps}",
        "sha256": sha256_of(out / WEIGHTS),
        "scores": own_scores(model),
        "parameters": sum(p.numel() for p in model.parameters()),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "adapters": asdict(SPEC),
    }
    (out / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
    (out / "README.md").write_text(README.format(**facts))
    (out / WEIGHTS).chmod(0o644)  # safetensors writes for the owner only


def main(arguments: list[str] | None = None) -> None:
    """Train from the command line; progress goes to the log."""
    parser = argparse.ArgumentParser(description="Train the base of the exam from scratch.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    def progress(step: int, steps: int, loss: float) -> None:
        if step % 50 == 0 or step == steps:
            log.info("step %d of %d, loss %.3f", step, steps, loss)

    facts = train_base(chosen.folder, seed=chosen.seed, steps=chosen.steps, progress=progress)
    log.info("wrote %s, its own scores: %s", facts.folder, dict(facts.scores))


if __name__ == "__main__":
    main()
