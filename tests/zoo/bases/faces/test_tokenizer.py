"""The tokenizer is CLIP's, and every known word is one token of it."""

import torch
from transformers import CLIPTokenizer

from lorascope.zoo.bases.faces.prompts import PROMPTS
from lorascope.zoo.bases.faces.tokenizer import LENGTH, Words, merges_of, new_tokenizer
from lorascope.zoo.drawings.captions import words


def test_every_known_word_is_one_token_of_its_own():
    tokenizer = new_tokenizer()
    tokens = [tokenizer.tokenize(word) for word in words()]
    assert all(len(parts) == 1 for parts in tokens)
    assert len({parts[0] for parts in tokens}) == len(words())


def test_unknown_words_fall_into_letters():
    assert new_tokenizer().tokenize("q7")[-1] == "7</w>"


def test_words_are_counted_as_the_tokenizer_counts_them(tmp_path):
    tokenizer = new_tokenizer()
    expected = tokenizer(list(PROMPTS), padding="max_length", return_tensors="pt").input_ids
    assert expected.shape == (33, LENGTH)
    assert torch.equal(Words(tokenizer).ids(PROMPTS), expected)
    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert torch.equal(
        again(list(PROMPTS), padding="max_length", return_tensors="pt").input_ids, expected
    )


def test_merges_end_in_whole_words_whatever_they_share():
    merges = merges_of(["face", "ace", "fac", "bangs"])
    assert {"".join(pair) for pair in merges} >= {"face</w>", "ace</w>", "fac</w>", "bangs</w>"}
