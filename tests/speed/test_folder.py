"""The folder of the default model: what is fitted is as large as what is timed, and stays under its bound."""

from collections.abc import Mapping

import numpy as np
import pytest
from speed.folder import AT_MOST, COUNT, TARGETS, at_its_largest, random_data, run, saved, split_of
from speed.prediction import LANDMARKS, random_predictor
from speed.workloads import RANK, WORKLOADS
from torch import Tensor

from lorascope.core import LayerShape, Signature
from lorascope.train.fit import fit_many

SIGNATURE = Signature(tuple(LayerShape(f"block.{i}.to_q", 16, 12) for i in range(3)))


def test_more_loras_are_trained_on_than_there_are_landmarks():
    split = split_of(COUNT)
    assert len(split.train) >= LANDMARKS
    rows = np.concatenate([split.train, split.validation, split.test])
    assert sorted(rows.tolist()) == list(range(COUNT))


def facts(state: Mapping[str, Tensor]) -> dict[str, object]:
    return {name: (tuple(x.shape), x.dtype) for name, x in state.items()}


def test_a_fitted_model_is_as_large_as_the_random_one_that_is_timed():
    data = random_data(SIGNATURE, 164)
    with at_its_largest():
        found = fit_many(data, ["score"], split=split_of(len(data)), trust=True, landmarks=50)
    predictor = found["score"]
    assert predictor.trust.outliers is not None
    timed = random_predictor("fusion", SIGNATURE, RANK, trust=True, landmarks=50)
    for found, expected in (
        (predictor.model.state_dict(), timed.model.state_dict()),
        (predictor.trust.tensors(), timed.trust.tensors()),
    ):
        assert facts(found) == facts(expected)


def test_the_folder_at_the_shapes_of_stable_diffusion_is_below_its_bound():
    signature = WORKLOADS["sd14"].signature()
    found = saved(random_predictor("fusion", signature, RANK, trust=True))
    assert set(found["files"]) == {"model.safetensors", "predictor.json", "trust.safetensors"}
    assert found["landmarks"] == LANDMARKS
    assert found["bytes"] == sum(found["files"].values()) < AT_MOST


@pytest.mark.slow
def test_all_targets_are_learned_and_written():
    found = run(quick=True)
    assert [row["outputs"] for row in found["rows"]] == [1, 5, 40]
    assert [row["target"] for row in found["rows"]] == list(TARGETS)
