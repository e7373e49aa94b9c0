import numpy as np
import pytest

from lorascope.errors import DataError, SignatureError
from lorascope.train.data import LabelledLoRAs, label_loras
from tests.planted import SHAPES, TARGETS, planted, planted_loras

SOURCES, SCORE, _ = TARGETS


def test_labels_are_encoded_and_missing_ones_are_known():
    loras, _ = planted_loras(3)
    data = label_loras(loras, {"score": [1.0, None, 3.0]}, [SCORE])
    assert len(data) == 3
    assert data.known("score").tolist() == [0, 2]
    assert data.batch.signature.names == tuple(SHAPES)


def test_select_takes_rows_of_everything():
    data = planted(12)
    some = data.select(np.array([5, 2]))
    assert len(some) == 2
    assert some.groups == [data.groups[5], data.groups[2]]
    for name in data.targets:
        np.testing.assert_array_equal(some.labels[name], data.labels[name][[5, 2]])
    np.testing.assert_array_equal(some.hyper["rate"], data.hyper["rate"][[5, 2]])
    np.testing.assert_array_equal(
        some.batch.groups[0].u.numpy(), data.batch.groups[0].u[:, [5, 2]].numpy()
    )


def test_an_unknown_target_names_those_that_exist():
    with pytest.raises(DataError, match="expected one of kind, score, sources"):
        planted(2).target("clip_score")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"groups": ["a"]}, "1 entries in the groups"),
        ({"hyper": {"rate": np.zeros(5)}}, "5 entries in the hyper-parameter 'rate'"),
        ({"labels": {"score": np.zeros((1, 1))}}, "1 entries in the labels of 'score'"),
        ({"labels": {}}, "target 'score' has no labels"),
    ],
)
def test_lengths_that_differ_are_refused(changes, words):
    batch = planted(2).batch
    fields = {"targets": {"score": SCORE}, "labels": {"score": np.zeros((2, 1))}} | changes
    with pytest.raises(DataError, match=words):
        LabelledLoRAs(batch, **fields)


def test_a_target_without_labels_is_refused():
    loras, _ = planted_loras(2)
    with pytest.raises(DataError, match="target 'sources' has no labels"):
        label_loras(loras, {"score": [1, 2]}, [SOURCES, SCORE])


def test_missing_layers_are_taken_only_on_purpose():
    loras, _ = planted_loras(2)
    partial = [loras[0], loras[1].select(["block.0.q"])]
    with pytest.raises(SignatureError):
        label_loras(partial, {"score": [1, 2]}, [SCORE])
    data = label_loras(partial, {"score": [1, 2]}, [SCORE], allow_missing=True)
    assert data.batch.present.sum(1).tolist() == [3, 1]
