import pytest
import torch

from lorascope.zoo.engine.language.alone import adapt, sequence_loss
from lorascope.zoo.engine.language.evaluate import (
    choice_log_likelihoods,
    choice_rows,
    tokens_asked,
    weighted_loss,
)
from lorascope.zoo.engine.language.fit import fit_adapters
from lorascope.zoo.engine.language.jobs import ChoiceSet
from lorascope.zoo.engine.peft_model import adapted_layers
from tests.zoo.conftest import make_base, make_job

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def make_choices(questions=11, longest=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return ChoiceSet(
        prefixes=torch.randint(40, (questions, 6), generator=generator),
        prefix_lengths=torch.randint(3, 7, (questions,), generator=generator),
        options=torch.randint(40, (questions, 4, longest), generator=generator),
        option_lengths=torch.randint(1, longest + 1, (questions, 4), generator=generator),
        answers=torch.zeros(questions, dtype=torch.int64),
    )


def plain_scores(model, choices):
    """Each option scored by itself, by the transformers model."""
    scores = torch.zeros(choices.options.shape[:2], dtype=torch.float64)
    for i in range(len(choices)):
        prefix = choices.prefixes[i, : choices.prefix_lengths[i]]
        for j in range(4):
            option = choices.options[i, j, : choices.option_lengths[i, j]]
            row = torch.cat((prefix, option))[None]
            logs = model(input_ids=row).logits[0].log_softmax(-1)
            at = range(len(prefix) - 1, row.shape[1] - 1)
            scores[i, j] = sum(logs[k, row[0, k + 1]] for k in at)
    return scores


def peft_of(base, spec, fitted, i):
    model = adapt(base, spec)
    for name, module in adapted_layers(model).items():
        module.lora_A.default.weight.data.copy_(fitted.A[name][i])
        module.lora_B.default.weight.data.copy_(fitted.B[name][i])
    return model.eval()


@pytest.fixture(scope="module")
def trained(base, spec):
    return fit_adapters(base, spec, [make_job(s) for s in range(3)], dtype=torch.float64)


@torch.no_grad()
@pytest.mark.parametrize("by_length", [False, True])
@pytest.mark.parametrize("longest", [1, 3])
def test_options_score_as_if_each_were_asked_alone(base, spec, trained, longest, by_length):
    choices = make_choices(longest=longest)
    settings = {"dtype": torch.float64, "slots": 2, "by_length": by_length}
    found = choice_log_likelihoods(base, spec, trained, choices, **settings)
    assert found.shape == (3, 11, 4)
    for i in range(3):
        model = peft_of(base, spec, trained, i)
        expected = plain_scores(model, choices)
        model.unload()
        assert torch.allclose(found[i], expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_float32_scores(spec, trained):
    base, choices = make_base(dtype=torch.float32), make_choices()
    found = choice_log_likelihoods(base, spec, trained, choices)
    model = peft_of(base, spec, trained, 1)
    assert torch.allclose(found[1].double(), plain_scores(model, choices), rtol=1e-5)


@torch.no_grad()
def test_the_base_alone(base, spec):
    choices = make_choices()
    found = choice_log_likelihoods(base, spec, None, choices, dtype=torch.float64)
    assert found.shape == (1, 11, 4)
    assert torch.allclose(found[0], plain_scores(base, choices), rtol=1e-10)


@torch.no_grad()
def test_weighted_loss_equals_peft(base, spec, trained):
    job = make_job(9, examples=13)
    found = weighted_loss(base, spec, trained, job.tokens, job.weights, dtype=torch.float64)
    for i in range(3):
        model = peft_of(base, spec, trained, i)
        expected = sequence_loss(model, job.tokens, job.weights)
        model.unload()
        assert torch.allclose(found[i], expected, rtol=1e-10)


@torch.no_grad()
def test_sorted_rows_read_the_same_loss(base, spec, trained):
    generator = torch.Generator().manual_seed(3)
    job = make_job(9, examples=21, length=12)
    weights = torch.zeros_like(job.weights)
    for row in weights:  # some have one answer after one token, some many after many
        end = int(torch.randint(2, 13, (), generator=generator))
        row[int(torch.randint(1, end, (), generator=generator)) : end] = 1
    plain, by_length = (
        weighted_loss(base, spec, trained, job.tokens, weights, dtype=torch.float64, by_length=each)
        for each in (False, True)
    )
    assert torch.allclose(plain, by_length, rtol=1e-12)


def test_sorted_rows_of_arcs_lengths_are_hardly_padded():
    """1,172 questions of about 45 tokens (14 to 200) with four options of 1 to 20."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(1172, generator=generator)
    prefixes = (40 * (0.42 * drawn).exp()).long().clamp(12, 180)
    options = (4 * torch.randn(1172, 4, generator=generator).mul(0.7).exp()).long().clamp(1, 20)
    answers = torch.zeros(1172, dtype=torch.int64)
    tokens = torch.zeros(1172, 4, 20, dtype=torch.int64)
    choices = ChoiceSet(torch.zeros(1172, 180).long(), prefixes, tokens, options, answers)
    rows = choice_rows(choices)
    real, whole = tokens_asked(rows)
    assert real == int(prefixes.sum() + (options - 1).sum())
    assert 1 - real / whole < 0.05
    assert 1 - real / choice_rows(choices).tokens.numel() > 0.7


@torch.no_grad()
def test_what_stands_after_the_end_is_not_seen(base, spec, trained):
    choices = make_choices()
    changed = choices.prefixes.clone()
    changed[torch.arange(6) >= choices.prefix_lengths[:, None]] = 7
    other = ChoiceSet(
        changed,
        choices.prefix_lengths,
        choices.options,
        choices.option_lengths,
        choices.answers,
    )
    a, b = (
        choice_log_likelihoods(base, spec, trained, c, dtype=torch.float64)
        for c in (choices, other)
    )
    assert torch.equal(a, b)
