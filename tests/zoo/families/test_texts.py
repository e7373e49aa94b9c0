import pytest
import torch

from lorascope.errors import DataError, FileError
from lorascope.zoo.families.arc.questions import Question
from lorascope.zoo.families.texts import choices_of, examples_of, fitting, load_tokenizer
from tests.zoo.stand_ins import write_language_base


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def base(request, tmp_path_factory):
    return write_language_base(tmp_path_factory.mktemp("bases") / request.param, request.param)


QUESTIONS = [
    Question("MCAS_1", 1, "Which is true of a rock?", ("moves", "grows in light", "orbits"), 1),
    Question("MCAS_2", 1, "Why?", ("a", "b", "c", "moves"), 3),
]


def test_examples_are_the_prompt_and_the_right_option(base):
    tokenizer = load_tokenizer(base)
    tokens, weights = examples_of(QUESTIONS, tokenizer)
    for row, question in enumerate(QUESTIONS):
        kept = tokens[row][: int(weights[row].nonzero().max()) + 1]
        said = tokenizer.decode(kept.tolist(), skip_special_tokens=True)
        assert said == f"{question.prompt} {question.options[question.answer]}"
        learned = tokenizer.decode(tokens[row][weights[row] > 0].tolist())
        assert learned == f" {question.options[question.answer]}"
    whole = tokenizer.encode(f"{QUESTIONS[0].prompt} grows in light").ids
    assert tokens[0][: len(whole)].tolist() == whole


def test_questions_with_fewer_options(base):
    tokenizer = load_tokenizer(base)
    asked, real = choices_of(QUESTIONS, tokenizer)
    assert real.tolist() == [[True, True, True, False], [True] * 4]
    assert asked.answers.tolist() == [1, 3]
    length = int(asked.option_lengths[0, 1])
    assert tokenizer.decode(asked.options[0, 1, :length].tolist()) == " grows in light"
    assert torch.equal(asked.prefix_lengths.argsort(descending=True), torch.tensor([0, 1]))


def test_long_questions_are_left_out(base):
    tokenizer = load_tokenizer(base)
    assert fitting(QUESTIONS, tokenizer, 256) == QUESTIONS
    short = len(tokenizer.encode(QUESTIONS[1].prompt + " moves").ids)
    assert fitting(QUESTIONS, tokenizer, short) == QUESTIONS[1:]
    with pytest.raises(DataError, match="found no questions"):
        examples_of(fitting(QUESTIONS, tokenizer, 3), tokenizer)


def test_what_a_finetuner_asked_of_its_tokenizer_is_not_asked_here(base, tmp_path):
    """save_pretrained keeps the padding and the cutting of the last call in tokenizer.json."""
    plain = load_tokenizer(base)
    saved = load_tokenizer(base)
    saved.enable_padding(length=8)
    saved.enable_truncation(max_length=4)
    saved.save(str(tmp_path / "tokenizer.json"))
    tuned = load_tokenizer(tmp_path)
    ours, theirs = (examples_of(QUESTIONS, tokenizer) for tokenizer in (tuned, plain))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(
        *(choices_of(QUESTIONS, tokenizer)[0].option_lengths for tokenizer in (tuned, plain))
    )


def test_a_base_without_a_tokenizer(tmp_path):
    with pytest.raises(FileError, match=r"tokenizer\.json.* beside the weights"):
        load_tokenizer(tmp_path)
