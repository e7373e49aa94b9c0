"""Small stand-ins of published data and models, in the same folders and files with the same syntax."""

import itertools
import json

import torch

from lorascope.zoo.families.arc.questions import SOURCES
from tests.zoo.conftest import make_base

THINGS = ("rock", "plant", "magnet", "cloud", "river", "moth", "lever", "planet")
ANSWERS = (
    "grows in light",
    "is pulled by iron",
    "is made of water drops",
    "orbits a star",
    "moves",
)
WORDS = "Question: Which of these is true of a in the exam Answer : grows light pulled by iron"


def write_arc(folder, train=48, others=12):
    """ARC's archive: every source has a training question, Mercury every other."""
    for name in ("Easy", "Challenge"):
        for part, count in (("Train", train), ("Dev", others), ("Test", others)):
            lines = [json.dumps(arc_question(name, part, i)) for i in range(count)]
            file = folder / f"ARC-{name}" / f"ARC-{name}-{part}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(lines) + "\n")
    return folder


def arc_question(name, part, i):
    source = "Mercury" if i % 2 else SOURCES[1 + (i // 2) % 19]
    thing, right = THINGS[i % len(THINGS)], i % len(ANSWERS)
    numeric = i % 7 == 0  # some exams number their options
    labels = "1234" if numeric else "ABCD"
    count = 3 if i % 11 == 5 else 4
    chosen = [ANSWERS[(right + k) % len(ANSWERS)] for k in range(count)]
    at = i % count
    chosen[0], chosen[at] = chosen[at], chosen[0]
    return {
        "id": f"CSZ{i}{part}" if source == "CSZ" else f"{source}_{name}_{i}",
        "question": {
            "stem": f"Which of these is true of a {thing} in the {part} exam {i}?",
            "choices": [
                {"text": text, "label": label} for text, label in zip(chosen, labels, strict=False)
            ],
        },
        "answerKey": labels[at],
    }


def write_tokenizer(folder, begins=False, words=()):
    """A byte-level BPE in tokenizer.json; Llama's begins every text with a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = list(itertools.chain(THINGS, ANSWERS, [WORDS], words))
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|begin_of_text|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def write_language_base(folder, kind="qwen2"):
    """A tiny random Qwen2 or Llama with its tokenizer, as save_pretrained leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    made = make_base(kind, torch.float32, vocab_size=400, max_position_embeddings=256)
    made.save_pretrained(folder)
    write_tokenizer(folder, begins=kind == "llama")
    return folder
