"""The tokenizer of the faces base: CLIP's own, with merges that make every word of a caption one token.

A sequence is `<|startoftext|>`, the words, and `<|endoftext|>` up to LENGTH, as in Stable Diffusion.
Unknown words fall into letters.
"""

import string
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from lorascope.errors import MissingExtraError
from lorascope.zoo.drawings.captions import LONGEST, words

__all__ = ["LENGTH", "Words", "new_tokenizer"]

LENGTH = LONGEST + 2  # tokens
START, END, SUFFIX = "<|startoftext|>", "<|endoftext|>", "</w>"
LETTERS = string.ascii_lowercase + string.digits + ".,-_'!?"


def new_tokenizer() -> Any:
    """A CLIPTokenizer that knows the words of the captions.

    Raises:
        MissingExtraError: transformers is not installed.
    """
    try:
        from transformers import CLIPTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", "zoo", "making the tokenizer of faces") from error
    merges = merges_of(words())
    tokens = [*LETTERS, *(letter + SUFFIX for letter in LETTERS), *("".join(m) for m in merges)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*tokens, START, END]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def merges_of(known: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair merges that leave each known word one token: the commonest pair first.

    Example:
        >>> merges_of(["hat"])
        [('a', 't</w>'), ('h', 'at</w>')]
    """
    split = [[*word[:-1], word[-1] + SUFFIX] for word in known]
    merges: list[tuple[str, str]] = []
    while any(len(parts) > 1 for parts in split):
        counts: dict[tuple[str, str], int] = {}
        for parts in split:
            for pair in pairwise(parts):
                counts[pair] = counts.get(pair, 0) + 1
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        split = [_merged(parts, best) for parts in split]
    return merges


def _merged(parts: Sequence[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


class Words:
    """Captions of known words to token ids, much faster than the tokenizer and equal to it."""

    def __init__(self, tokenizer: Any) -> None:
        ids: Mapping[str, int] = tokenizer.get_vocab()
        self.known = {word: ids[word + SUFFIX] for word in words()}
        self.start, self.end = ids[START], ids[END]

    def ids(self, captions: Sequence[str]) -> Tensor:
        """Token ids of captions: (b, LENGTH) int64."""
        rows = torch.full((len(captions), LENGTH), self.end)
        for row, caption in zip(rows, captions, strict=True):
            said = [self.start, *(self.known[word] for word in caption.split())]
            row[: len(said)] = torch.tensor(said)
        return rows
