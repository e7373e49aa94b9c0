from dataclasses import replace

import numpy as np
import pytest

from lorascope.core.batch import collate
from lorascope.errors import DataError, SignatureError
from lorascope.io.shard_writer import ZooWriter
from lorascope.io.shards import open_zoo
from lorascope.train.data import LabelledLoRAs, from_zoo, label_loras
from tests.core.test_magnitudes import with_magnitudes
from tests.planted import SHAPES, TARGETS, planted, planted_loras

SOURCES, SCORE, KIND = TARGETS


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


def test_the_layers_are_those_of_all_loras_whichever_comes_first():
    loras, _ = planted_loras(3)
    names = list(SHAPES)
    whole = [loras[0].select(names[:1]), loras[1], loras[2].select(names[1:])]
    data = label_loras(whole, {"score": [1, 2, 3]}, [SCORE], allow_missing=True)
    assert data.batch.signature.names == tuple(names)
    assert data.batch.present.sum(1).tolist() == [1, 3, 2]
    parts = [loras[0].select(names[2:]), loras[1].select(names[:2])]  # none has all of them
    data = label_loras(parts, {"score": [1, 2]}, [SCORE], allow_missing=True)
    assert set(data.batch.signature.names) == set(names)
    assert data.batch.present.sum(1).tolist() == [1, 2]


def write_zoo(path, count=12, **labels):
    """A zoo on disk with planted LoRAs; label columns as given, one entry per row."""
    loras, table = planted_loras(count)
    targets = {"sources": SOURCES, "score": SCORE, "kind": KIND}
    recipe = {"targets": {k: t.to_json() | {"base_value": 0.5} for k, t in targets.items()}}
    labels = {
        "sources": table[:, :3].astype(bool).tolist(),
        "score": table[:, 3].tolist(),
        "kind": [KIND.classes[i % 3] for i in range(count)],
    } | labels
    rows = [
        {"id": i, "seed": i, "group": f"g{i // 2}", "hyper:rate": 0.1 * i}
        | {f"label:{name}": values[i] for name, values in labels.items()}
        for i in range(count)
    ]
    writer = ZooWriter(path, recipe)
    writer.add_shard(0, loras, rows)
    writer.finish({"ceilings": {"score": {"r2": 0.9, "note": "words"}, "sum": 3}})
    return open_zoo(path), loras, table


def test_a_zoo_becomes_labelled_loras_in_its_order(tmp_path):
    zoo, loras, table = write_zoo(tmp_path)
    data = from_zoo(zoo)
    assert data.targets == {"sources": SOURCES, "score": SCORE, "kind": KIND}
    np.testing.assert_array_equal(data.labels["sources"], table[:, :3])
    np.testing.assert_array_equal(data.labels["score"][:, 0], table[:, 3])
    np.testing.assert_array_equal(data.labels["kind"].argmax(1), np.arange(12) % 3)
    assert data.groups == [f"g{i // 2}" for i in range(12)]
    np.testing.assert_allclose(data.hyper["rate"], 0.1 * np.arange(12))
    assert data.source == tmp_path.name
    expected = collate(loras)
    for a, b in zip(data.batch.groups, expected.groups, strict=True):
        np.testing.assert_array_equal(a.u.numpy(), b.u.numpy())


def test_only_some_targets_of_a_zoo_and_no_unknown_one(tmp_path):
    zoo, *_ = write_zoo(tmp_path)
    assert list(from_zoo(zoo, ["kind"]).targets) == ["kind"]
    with pytest.raises(DataError, match="'clip_score'"):
        from_zoo(zoo, ["clip_score"])


def test_missing_labels_of_a_zoo_are_missing_rows(tmp_path):
    zoo, *_ = write_zoo(
        tmp_path,
        sources=[None, *([True, False, True],) * 11],
        score=[None, *[1.0] * 11],
        kind=["red"] * 11 + [None],
    )
    data = from_zoo(zoo)
    assert data.known("sources").tolist() == list(range(1, 12))
    assert data.known("score").tolist() == list(range(1, 12))
    assert data.known("kind").tolist() == list(range(11))


SMALL = planted(80)


def test_the_digest_sees_all_that_a_result_depends_on():
    (reference,) = SMALL.digests(["score"]).values()
    assert planted(80).digests(["score"]) == {"score": reference}
    hyper = {name: values + 1 for name, values in SMALL.hyper.items()}
    batch = SMALL.batch.with_groups(
        [replace(group, u=group.u * 1.0001) for group in SMALL.batch.groups]
    )
    for changes in ({"groups": ["a"] * 80}, {"hyper": hyper}, {"batch": batch}):
        assert replace(SMALL, **changes).digests(["score"])["score"] != reference
    kind = {name: values[::-1].copy() for name, values in SMALL.labels.items()}
    assert replace(SMALL, labels=kind).digests(["score"])["score"] != reference


def test_magnitudes_of_dora_come_along_and_are_part_of_the_digest(tmp_path, generator):
    plain, _ = planted_loras(4)
    dora = [*(with_magnitudes(lora, generator) for lora in plain[:3]), plain[3]]
    labels = {"score": [1.0, 2.0, 3.0, 4.0]}
    data, without = (label_loras(loras, labels, [SCORE]) for loras in (dora, plain))
    assert (data.side, without.side) == (("dora_magnitude",), ())
    assert data.batch.magnitudes.present.all(1).tolist() == [True, True, True, False]
    assert without.batch.magnitudes is None
    assert data.digests(["score"]) != without.digests(["score"])
    chosen = data.select(np.array([3, 1]))
    assert chosen.batch.magnitudes.present.any(1).tolist() == [False, True]
    writer = ZooWriter(tmp_path, {"targets": {"score": SCORE.to_json()}})
    # shards of which only one has some; the first LoRA of the zoo lies in the second shard
    for shard, rows in enumerate(([3], [0, 1, 2])):
        cells = [{"id": i, "seed": i, "group": "g", "label:score": float(i)} for i in rows]
        writer.add_shard(shard, [dora[i] for i in rows], cells)
    found = from_zoo(writer.finish())
    assert found.side == ("dora_magnitude",)
    assert found.batch.magnitudes.present.any(1).tolist() == [True, True, True, False]
