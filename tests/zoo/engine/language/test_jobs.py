import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.engine.language.jobs import ChoiceSet, FitJob
from tests.zoo.conftest import make_job


def test_steps_count_the_short_batch():
    job = make_job(0, examples=17, batch_size=8, epochs=3)
    assert (job.steps_per_epoch, job.steps) == (3, 9)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens": torch.zeros(4, 9)}, "expected int64"),
        ({"tokens": torch.zeros(4, 1).long(), "weights": torch.ones(4, 1)}, "two tokens"),
        ({"weights": torch.zeros(4, 9)}, "positive sum"),
        ({"weights": torch.ones(4, 9)}, "first token"),
        ({"weights": torch.ones(3, 9)}, "two \\(examples, length\\)"),
        ({"epochs": 0}, "epochs 0"),
        ({"dropout": 1.0}, "dropout 1.0"),
    ],
)
def test_jobs_that_cannot_be_run_are_refused(changes, said):
    fields = {**vars(make_job(0, examples=4)), **changes}
    with pytest.raises(DataError, match=said):
        FitJob(**fields)


def test_questions_are_checked():
    good = {
        "prefixes": torch.zeros(2, 5).long(),
        "prefix_lengths": torch.tensor([5, 3]),
        "options": torch.zeros(2, 4, 2).long(),
        "option_lengths": torch.ones(2, 4).long(),
        "answers": torch.zeros(2).long(),
    }
    assert len(ChoiceSet(**good)) == 2
    with pytest.raises(DataError, match="answers has shape"):
        ChoiceSet(**{**good, "answers": torch.zeros(3).long()})
    with pytest.raises(DataError, match=r"lengths must lie in 1\.\.5"):
        ChoiceSet(**{**good, "prefix_lengths": torch.tensor([6, 3])})
