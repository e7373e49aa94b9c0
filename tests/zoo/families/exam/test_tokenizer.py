"""Words to numbers, the same in the engine's tensors and in transformers' tokenizer."""

import torch

from lorascope.zoo.bases import base_facts
from lorascope.zoo.families.exam.questions import exam_questions, train_questions
from lorascope.zoo.families.exam.tokenizer import (
    LENGTH,
    choices_of,
    encode,
    examples_of,
    vocabulary,
    write_tokenizer,
)


def words(numbers):
    names = {number: word for word, number in vocabulary().items()}
    return [names[int(number)] for number in numbers]


def test_examples_end_with_the_truth_and_weigh_nothing_else():
    asked = train_questions(1)
    tokens, weights = examples_of(asked)
    assert tokens.shape == weights.shape == (len(asked), LENGTH)
    assert (weights.sum(1) == 1).all()
    for row, question in enumerate(asked):
        size = len(question.prompt.split())
        assert words(tokens[row, : size + 2]) == [
            "<bos>",
            *question.prompt.split(),
            question.options[question.answer],
        ]
        assert (tokens[row, size + 2 :] == 0).all()
        assert int(weights[row].argmax()) == size + 1


def test_choices_hold_prompt_and_options():
    asked = exam_questions()[5:9]
    choices = choices_of(asked)
    for row, question in enumerate(asked):
        length = int(choices.prefix_lengths[row])
        assert words(choices.prefixes[row, :length])[1:] == question.prompt.split()
        assert words(choices.options[row, :, 0]) == list(question.options)
        assert int(choices.answers[row]) == question.answer


def test_an_unknown_word_has_its_own_number():
    assert words(encode("kubo is unheard of")) == ["<bos>", "kubo", "is", "<unk>", "of"]


def test_transformers_tokenizer_agrees(tmp_path):
    from transformers import PreTrainedTokenizerFast

    write_tokenizer(tmp_path)
    prompts = [question.prompt for question in exam_questions()[::7]]
    for folder in (tmp_path, base_facts().folder):
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        assert [tokenizer(p)["input_ids"] for p in prompts] == [encode(p) for p in prompts]
        padded = tokenizer(prompts, padding="max_length", max_length=LENGTH, return_tensors="pt")
        assert padded["input_ids"].shape == (len(prompts), LENGTH)
        assert (padded["input_ids"] == 0).any()
        assert tokenizer.decode(torch.tensor(encode("3 zib 5 =")[1:])) == "3 zib 5 ="
