"""The fixed prompts are captions that the base can know."""

from lorascope.zoo.bases.faces.prompts import OWN_PROMPTS, PROMPTS, token_ids
from lorascope.zoo.bases.faces.tokenizer import LENGTH, new_tokenizer
from lorascope.zoo.drawings import CLASSES
from lorascope.zoo.drawings.captions import RARE, words


def test_there_are_33_of_known_words_and_all_objects():
    assert len(set(PROMPTS)) == 33
    said = {word for prompt in (*PROMPTS, *OWN_PROMPTS) for word in prompt.split()}
    assert said <= set(words())
    assert set(CLASSES) <= said
    assert set(OWN_PROMPTS) <= set(RARE)


def test_ids_are_padded_and_cut_to_the_length():
    ids = token_ids(new_tokenizer(), ["", "hat " * 50])
    assert ids.shape == (2, LENGTH)
    assert len(set(ids[0].tolist())) == 2
    assert len(set(ids[1, 1:-1].tolist())) == 1
