"""trial: whole groups stay outside, each once; what is no better than luck is not worth it."""

import pytest
import torch

from lorascope.models.closed_form import Labels
from lorascope.models.trial import _guess, losses, trials, worth_it


def labels_of(groups, **others):
    count = len(groups)
    y = torch.arange(count, dtype=torch.float64).unsqueeze(1)
    return Labels(y, "regression", torch.arange(count) + 100, groups=torch.tensor(groups), **others)


def test_every_lora_is_outside_once_and_its_group_with_it():
    groups = [3, 3, 8, 1, 1, 1, 0, 5, 9, 9]
    labels = labels_of(groups, beside=torch.arange(20.0).view(10, 2))
    seen = []
    for trial in trials(labels):
        inner, outer = trial.labels.rows - 100, trial.rows - 100
        seen += outer.tolist()
        assert sorted([*inner.tolist(), *outer.tolist()]) == list(range(10))
        assert not {groups[i] for i in inner} & {groups[i] for i in outer}
        assert torch.equal(trial.labels.y, labels.y[inner])
        assert torch.equal(trial.labels.beside, labels.beside[inner])
        assert trial.labels.groups.tolist() == [groups[i] for i in inner]
        assert torch.equal(trial.y, labels.y[outer])
    assert sorted(seen) == list(range(10))


def test_of_many_only_some_are_tried():
    labels = Labels(torch.zeros(50, 1).double(), "regression", torch.arange(50))
    found = list(trials(labels, most=20))
    assert sum(len(trial.rows) for trial in found) == 20
    assert all(len(trial.labels.rows) + len(trial.rows) == 20 for trial in found)


def test_one_group_cannot_be_tried():
    assert list(trials(labels_of([4, 4, 4]))) == []
    assert not worth_it(labels_of([4, 4, 4]), lambda trial, adding: trial.y)


def test_losses_are_squared_errors_or_log_losses():
    y, score = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 2.0]])
    assert losses(score, y, "regression").tolist() == [0.5]
    by_hand = torch.tensor(2.0).log() - torch.tensor(2.0).sigmoid().log()
    assert float(losses(score, y, "multilabel")) == pytest.approx(float(by_hand))
    assert float(losses(score, y, "multiclass")) == pytest.approx(
        -float(torch.tensor([0.0, 2.0]).log_softmax(0)[1])
    )


def test_an_addition_is_judged_on_what_it_has_not_seen():
    labels = Labels(torch.ones(40, 1).double(), "regression", torch.arange(40))
    asked = []

    def attempt(trial, adding):
        asked.append((len(trial.rows), adding))
        return trial.y - (0.1 if adding else 0.5)

    assert worth_it(labels, attempt)
    assert asked == [(10, False), (10, True)] * 4
    assert not worth_it(labels, lambda trial, adding: attempt(trial, not adding))
    assert worth_it(labels, lambda trial, adding: trial.y)  # it changes nothing


def test_in_doubt_it_depends_on_whether_anything_was_learned():
    y = torch.randn(40, 1, generator=torch.Generator().manual_seed(0)).double()
    labels = Labels(y, "regression", torch.arange(40))
    noise = torch.randn(40, 1, generator=torch.Generator().manual_seed(1)).double()

    def attempt(trial, adding, learned, rise):
        """Errors of one size, in another order and a little larger with the addition."""
        off = 0.3 * ((1 + rise) * noise.flip(0) if adding else noise)
        return learned * trial.y + off[trial.rows]

    assert worth_it(labels, lambda trial, adding: attempt(trial, adding, 1.0, 0.02))
    assert not worth_it(labels, lambda trial, adding: attempt(trial, adding, 1.0, 1.0))
    assert not worth_it(labels, lambda trial, adding: attempt(trial, adding, 0.0, 0.02))


def test_labels_and_classes_are_guessed_by_their_shares():
    y = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0]]).double()
    trial = next(trials(Labels(y, "multilabel", torch.arange(4))))
    shares = _guess(trial).sigmoid()
    assert torch.allclose(shares[0, 0], trial.labels.y[:, 0].mean())
    assert 0 < float(shares[0, 1]) < 0.01
