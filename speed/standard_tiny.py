"""Standard evaluations on the bundled bases, run whole: the exam, and 33 sampled prompts with CLIP's score."""

import copy
import warnings
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorascope.zoo.bases.faces.folder import FacesBase, load_faces
from lorascope.zoo.bases.faces.prompts import PROMPTS, token_ids
from lorascope.zoo.bases.faces.sampler import decode, sample, single
from lorascope.zoo.bases.faces.similarity import clip_score, image_features, text_features
from lorascope.zoo.families.exam.by_hand import exam_base
from lorascope.zoo.families.exam.questions import exam_questions
from lorascope.zoo.families.exam.scores import questions
from speed.clock import Clock
from speed.standard import Standard, fastest, type_name, types_of

__all__ = ["exam_standard", "faces_standard"]

QUESTIONS_AT_ONCE = (64, 256, 1024)
PROMPTS_AT_ONCE = (8, 16, len(PROMPTS))


def exam_standard(clock: Clock) -> Standard:
    """One adapter sits the exam: every test and validation question, one token an option."""
    count = len(questions().prefixes)
    what = f"exam of {count:,} questions, one row each"
    merged, ways = exam_model(), []
    for dtype in types_of(clock.device):
        model = copy.deepcopy(merged).to(clock.device, dtype)
        for batch in QUESTIONS_AT_ONCE:
            seconds = clock.seconds(sitting(model, clock.device, batch))
            ways.append(Standard(what, seconds, type_name(dtype), batch))
    return fastest(ways)


def exam_model() -> Any:
    """The tiny Qwen2 with the bundled adapter merged into it."""
    from peft import PeftModel

    adapter = Path(str(files("lorascope") / "data" / "sample" / "exam-lora"))
    with warnings.catch_warnings():
        # peft asks transformers 5 for a property by its old name
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        return PeftModel.from_pretrained(exam_base(), str(adapter)).merge_and_unload().eval()


def sitting(model: Any, device: str, batch: int) -> Callable[[], dict[str, float]]:
    """What asks all questions and scores the answers."""
    asked, count = questions(), len(exam_questions())
    prefixes, options = asked.prefixes.to(device), asked.options[..., 0].to(device)
    ends, answers = asked.prefix_lengths.to(device) - 1, asked.answers.to(device)

    @torch.inference_mode()
    def sit() -> dict[str, float]:
        parts = []
        for start in range(0, len(prefixes), batch):
            rows = slice(start, start + batch)
            logits = model(input_ids=prefixes[rows], use_cache=False).logits
            last = logits[torch.arange(len(logits), device=device), ends[rows]].float()
            parts.append(last.log_softmax(-1).gather(1, options[rows]))
        scores = torch.cat(parts)
        right = scores[:count].argmax(1) == answers[:count]
        truth = scores[count:].gather(1, answers[count:, None])
        return {"accuracy": float(right.float().mean()), "eval_loss": -float(truth.mean())}

    return sit


def faces_standard(clock: Clock) -> Standard:
    """One adapter draws the 33 prompts, and CLIP scores the pictures."""
    what = f"{len(PROMPTS)} prompts sampled with guidance, in few steps, and their CLIP score"
    ways = []
    for dtype in types_of(clock.device):
        base = moved(load_faces(), clock.device, dtype)
        for batch in PROMPTS_AT_ONCE:
            seconds = clock.seconds(drawing(base, clock.device, dtype, batch))
            ways.append(Standard(what, seconds, type_name(dtype), batch))
    return fastest(ways)


def moved(base: FacesBase, device: str, dtype: torch.dtype) -> FacesBase:
    """The base on a device in a type (in place)."""
    for part in (base.unet, base.vae):
        part.to(device, dtype, memory_format=torch.channels_last)
    for part in (base.text_encoder, base.clip):
        part.to(device, dtype)
    return base


def drawing(base: FacesBase, device: str, dtype: torch.dtype, batch: int) -> Callable[[], float]:
    """What samples all prompts and gives their mean CLIP score."""
    ids = token_ids(base.tokenizer, PROMPTS).to(device)
    nothing = token_ids(base.tokenizer, [""]).to(device)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(ids), 4, 8, 8, generator=generator).to(device, dtype)

    @torch.inference_mode()
    def draw() -> float:
        scores: list[Tensor] = []
        empty = base.text_encoder(nothing)[0]
        for start in range(0, len(ids), batch):
            rows = slice(start, start + batch)
            predict = single(base.unet, base.text_encoder(ids[rows])[0], empty)
            pictures = decode(sample(predict, noise[rows]), base.vae)
            seen = image_features(base.clip, pictures)
            scores.append(clip_score(seen, text_features(base.clip, ids[rows])) * len(seen))
        return float(sum(scores)) / len(ids)

    return draw
