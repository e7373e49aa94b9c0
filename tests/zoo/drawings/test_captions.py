"""Captions: what is said is on the picture, in known words, within the length."""

import torch

from lorascope.zoo.drawings.captions import LONGEST, face_caption, object_caption, words
from lorascope.zoo.drawings.faces import ATTRIBUTES
from lorascope.zoo.drawings.objects import CLASSES, COLOURS
from lorascope.zoo.drawings.people import random_attributes

SAID = {"Smiling": "smiling", "Eyeglasses": "eyeglasses", "Wearing_Hat": "hat", "Bangs": "bangs"}


def faces(count, named):
    generator = torch.Generator().manual_seed(0)
    for attributes in random_attributes(count, generator).tolist():
        yield (
            dict(zip(ATTRIBUTES, attributes, strict=True)),
            face_caption(attributes, generator, named).split(),
        )


def test_a_full_caption_says_what_is_there_and_nothing_else():
    for has, said in faces(200, 1.0):
        assert {name for name in SAID if has[name]} == {n for n, w in SAID.items() if w in said}
        assert ("man" in said, "woman" in said) == (has["Male"], not has["Male"])
        assert ("young" in said, "old" in said) == (has["Young"], not has["Young"])
        assert ("beard" in said) != has["No_Beard"]
        assert ("blond" in said) == has["Blond_Hair"] != ("dark" in said)
        assert (said.count("big"), "lips" in said) == (
            has["Big_Lips"] + has["Big_Nose"],
            has["Big_Lips"],
        )


def test_some_attributes_are_left_out_and_none_made_up():
    lengths = [len(said) for _, said in faces(300, 0.75)]
    full = [len(said) for _, said in faces(300, 1.0)]
    assert sum(lengths) < 0.9 * sum(full)
    assert not any("hat" in said and not has["Wearing_Hat"] for has, said in faces(300, 0.75))


def test_every_word_is_known_and_no_caption_too_long():
    known = set(words())
    longest = 0
    for _, said in faces(300, 1.0):
        assert known >= set(said)
        longest = max(longest, len(said))
    everything = [True] * 7 + [False] + [True] * 4
    assert len(face_caption(everything, torch.Generator(), 1.0).split()) == LONGEST >= longest


def test_objects_are_named_in_their_colour():
    generator = torch.Generator().manual_seed(0)
    told = [object_caption(3, 5, generator) for _ in range(100)]
    assert {text.split()[-1] for text in told} == {"fish"} <= set(CLASSES)
    assert 60 <= sum("an orange fish" in text for text in told) <= 90
    assert {"orange"} == {w for text in told for w in text.split() if w in COLOURS}
