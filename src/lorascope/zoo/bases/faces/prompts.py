"""Prompts: the 33 that every finetuned model is scored on, and the words that they are finetuned on.

The paper scores on 30 PartiPrompts and 3 of its own (section 5.2); these are 23 faces and 10 objects.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lorascope.zoo.bases.faces.tokenizer import LENGTH

__all__ = ["OWN_PROMPTS", "PROMPTS", "token_ids"]

PROMPTS = (
    "a photo of a young man",
    "a photo of a young woman",
    "a photo of an old man",
    "a photo of an old woman",
    "a photo of a smiling young woman with blond hair",
    "a photo of a man with beard",
    "a photo of a man with eyeglasses",
    "a photo of a woman with hat",
    "a picture of a woman with bangs dark hair",
    "a picture of a smiling man with big nose",
    "a picture of a woman with lipstick earrings",
    "a picture of a man with blond hair beard",
    "a picture of an old man with hat beard",
    "a picture of a young woman with big lips lipstick",
    "a drawing of a smiling old woman with eyeglasses",
    "a drawing of a young man with bangs blond hair",
    "a drawing of a woman with earrings hat",
    "a drawing of a man with dark hair big nose",
    "a drawing of an old woman with blond hair lipstick",
    "a photo of a smiling man with beard eyeglasses",
    "a photo of a young woman with dark hair eyeglasses earrings",
    "a photo of a young man with hat big lips",
    "a picture of a smiling woman with bangs blond hair lipstick",
    "a photo of a red ball",
    "a photo of a house",
    "a picture of a green tree",
    "a picture of an orange fish",
    "a drawing of a yellow star",
    "a drawing of a cup",
    "a photo of a blue car",
    "a picture of a key",
    "a photo of a purple boat",
    "a drawing of a lamp",
)
#: What the images of one LoRA are called; the paper's "Celebrity", "Person", "thing", "skd".
OWN_PROMPTS = ("celebrity", "person", "thing", "skd")


def token_ids(tokenizer: Any, prompts: Sequence[str]) -> Tensor:
    """Token ids of prompts: (p, 22) int64."""
    ids: Tensor = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=LENGTH,
        return_tensors="pt",
    ).input_ids
    return ids.to(torch.int64)
