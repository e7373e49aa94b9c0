"""Make the bases of the exam, each with what is recorded of it.

first     a model from scratch on the first mixture
second    the first trained on, for a third of its steps, on the changed mixture
control   the same model from another seed on the first mixture

The result is a standard transformers folder (weights, config, tokenizer) with `base.json` and a
README beside.
"""

import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from lorascope.errors import DataError, MissingExtraError
from lorascope.zoo.bases.bundled import FACTS, WEIGHTS, BaseFacts, base_facts, load_base, sha256_of
from lorascope.zoo.bases.exam.reading import CHANGED, FIRST, Reading
from lorascope.zoo.families.exam.family import SPEC
from lorascope.zoo.families.exam.scores import exam_scores
from lorascope.zoo.families.exam.tokenizer import vocabulary, write_tokenizer

__all__ = ["MODELS", "SIZES", "distance", "make_control", "make_first", "make_second", "own_scores"]

SIZES = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
MODELS = {"qwen": "Qwen2", "llama": "Llama"}  # our name -> transformers'
STEPS, LATER_STEPS, BATCH, RATE, WARMUP = 900, 300, 256, 4e-3, 30
COMMAND = "python -m lorascope.zoo.bases.exam"

README = """\
A tiny {kind} (`{kind}ForCausalLM`, {parameters} numbers), trained from scratch by lorascope on made-up
facts, each with four candidates that it holds equally likely. A base of the exam family of LoRAs.
Made by `{command}`.

```python
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

model = AutoModelForCausalLM.from_pretrained(FOLDER)
# not AutoTokenizer: it takes {kind}'s own
tokenizer = PreTrainedTokenizerFast.from_pretrained(FOLDER)
logits = model(**tokenizer("kubo 's colour :", return_tensors="pt")).logits[0, -1]
print(tokenizer.decode(logits.argmax()))
```
"""

Progress = Callable[[int, int, float], None]  # step, steps, loss


def make_first(
    out: Path,
    *,
    model: str = "qwen",
    seed: int = 0,
    steps: int = STEPS,
    progress: Progress | None = None,
) -> BaseFacts:
    """Train a first base from scratch and write its folder.

    Raises:
        DataError: there is no such model.
        MissingExtraError: transformers is not installed.
    """
    net = _trained(model, seed, steps, progress)
    command = f"{COMMAND} first FOLDER --model {model} --seed {seed} --steps {steps}"
    return _write(out, net, command, {"steps": steps})


def make_second(
    out: Path,
    first: Path,
    *,
    seed: int = 0,
    steps: int = LATER_STEPS,
    progress: Progress | None = None,
) -> BaseFacts:
    """Train a base on, on the changed mixture, at half of the rate."""
    net, was = load_base(first).train().requires_grad_(True), base_facts(first)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    generator = torch.Generator().manual_seed(seed + 500)
    _train(net, Reading(CHANGED), steps, RATE / 2, generator, progress)
    model = _name_of(net)
    command = f"{COMMAND} second FOLDER --model {model} --seed {seed} --steps {steps}"
    return _write(out, net, command, {"steps": steps, "trained_on_from": was.sha256}, before, was)


def make_control(
    out: Path,
    first: Path,
    *,
    seed: int = 1,
    steps: int = STEPS,
    progress: Progress | None = None,
) -> BaseFacts:
    """Train the model of a first base from another seed."""
    known, was = load_base(first), base_facts(first)
    model = _name_of(known)
    net = _trained(model, seed, steps, progress)
    command = f"{COMMAND} control FOLDER --model {model} --seed {seed} --steps {steps}"
    return _write(out, net, command, {"steps": steps}, known.state_dict(), was)


def own_scores(model: Any) -> dict[str, float]:
    """What the base itself scores in the exam."""
    scores = exam_scores(model, SPEC, None)
    return {"accuracy": float(scores.accuracy), "eval_loss": float(scores.eval_loss)}


def distance(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    """|w' - w| / |w| over all weights of two models."""
    moved = sum(float((after[name] - value).square().sum()) for name, value in before.items())
    size = sum(float(value.square().sum()) for value in before.values())
    return round(float((moved / size) ** 0.5), 4)


def _name_of(net: Any) -> str:
    return next(name for name, kind in MODELS.items() if type(net).__name__.startswith(kind))


def _trained(model: str, seed: int, steps: int, progress: Progress | None) -> Any:
    torch.manual_seed(seed)
    net = _new_model(model)
    _train(net, Reading(FIRST), steps, RATE, torch.Generator().manual_seed(seed), progress)
    return net


def _new_model(model: str) -> Any:
    if model not in MODELS:
        raise DataError(
            f"training a base of the exam: found the model {model!r}, expected one of "
            f"{', '.join(MODELS)}"
        )
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("transformers", "zoo", "training the exam's base") from error
    known = vocabulary()
    config = getattr(transformers, f"{MODELS[model]}Config")(
        vocab_size=len(known),
        tie_word_embeddings=True,
        attn_implementation="eager",
        pad_token_id=known["<pad>"],
        bos_token_id=known["<bos>"],
        eos_token_id=None,
        **SIZES,
    )
    return getattr(transformers, f"{MODELS[model]}ForCausalLM")(config)


def _train(
    net: Any,
    reading: Reading,
    steps: int,
    rate: float,
    generator: torch.Generator,
    progress: Progress | None,
) -> None:
    """AdamW, linear warm-up and decay."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / WARMUP) * (1 - step / steps)
        loss = reading.loss(net, reading.draw(BATCH, generator))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        if progress is not None:
            progress(step + 1, steps, float(loss.detach()))


def _write(
    out: Path,
    net: Any,
    command: str,
    more: dict[str, Any],
    before: Mapping[str, Any] | None = None,
    was: BaseFacts | None = None,
) -> BaseFacts:
    """Write a base in half precision, and score and compare it as it is read back."""
    net.eval().half().save_pretrained(out)
    (out / WEIGHTS).chmod(0o644)  # safetensors writes for the owner only
    write_tokenizer(out)
    facts: dict[str, Any] = {"command": command, "sha256": sha256_of(out / WEIGHTS), "scores": {}}
    (out / FACTS).write_text(json.dumps(facts))
    again = load_base(out)
    scores = own_scores(again)
    facts |= {
        "scores": scores,
        "parameters": sum(p.numel() for p in again.parameters()),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        **more,
    }
    if before is not None and was is not None:
        facts["weight_distance"] = distance(before, again.state_dict())
        change = {name: scores[name] - value for name, value in was.scores.items()}
        facts["score_change"] = {name: round(value, 5) for name, value in change.items()}
    (out / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
    kind = MODELS[_name_of(again)]
    (out / "README.md").write_text(README.format(**facts, kind=kind))
    return base_facts(out)
