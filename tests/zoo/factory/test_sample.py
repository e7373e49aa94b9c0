"""A sample: whole groups, each stratum in its share, the same for the same seed."""

import csv
from collections import Counter

import pytest

from lorascope.errors import DataError, FileError
from lorascope.io.folds import fold_of
from lorascope.io.shard_writer import ZooWriter
from lorascope.zoo.factory.sample import draw_rows, sample_zoo, write_list
from lorascope.zoo.factory.verify import verify_zoo
from tests.zoo.factory.planted_zoo import (
    planted_lora,
    planted_recipe,
    planted_row,
    write_planted,
)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return write_planted(tmp_path_factory.mktemp("zoo") / "zoo", seeds=range(200), shard=50)


def test_groups_are_whole_and_the_seed_decides(zoo):
    rows = draw_rows(zoo, 41)
    groups = Counter(zoo.groups()[row] for row in rows)
    assert len(rows) == 40  # groups have two: 41 cannot be had
    assert set(groups.values()) == {2}
    assert rows == draw_rows(zoo, 41) == sorted(rows)
    assert rows != draw_rows(zoo, 41, seed=1)


def test_folds_keep_their_shares(zoo):
    rows = draw_rows(zoo, 60)
    whole = Counter(map(fold_of, zoo.groups()))
    part = Counter(fold_of(zoo.groups()[row]) for row in rows)
    for fold, count in whole.items():
        assert part[fold] == pytest.approx(count * 60 / 200, abs=2)


@pytest.mark.parametrize("target", ["score", "topics", "maker"])
def test_strata_by_a_label(zoo, target):
    rows = draw_rows(zoo, 50, by=target)
    assert len(rows) == 50
    if target == "score":  # groups are of neighbours: 0 and .25, .5 and .75, ...
        firsts = Counter(zoo.labels("score")[row] for row in rows[::2])
        assert max(firsts.values()) - min(firsts.values()) <= 2


COLUMNS = {
    "label:identity": lambda seed: seed // 2,
    "hyper:epochs": lambda seed: float(1 + seed // 2 % 2),
    "label:by_source": lambda seed: [0.5, seed / 9],
    "label:nothing": lambda seed: None if seed % 4 < 2 else seed,
}


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A zoo with columns that are no targets."""
    writer = ZooWriter(tmp_path_factory.mktemp("zoo") / "wide", planted_recipe())
    rows = [
        planted_row(seed, seed, f"g{seed // 2}", **{n: of(seed) for n, of in COLUMNS.items()})
        for seed in range(40)
    ]
    writer.add_shard(0, [planted_lora(seed) for seed in range(40)], rows)
    return writer.finish()


@pytest.mark.parametrize(
    "by",
    ["identity", "label:identity", "epochs", "hyper:epochs", "rate", "seed", "group", "nothing"],
)
def test_strata_by_any_column(wide, by):
    rows = draw_rows(wide, 20, by=by)
    assert len(rows) == 20
    if by.endswith("identity"):  # quintiles of 20 people
        assert Counter(row // 8 for row in rows) == dict.fromkeys(range(5), 4)
    if by.endswith("epochs"):  # two values, two strata
        assert Counter(row // 2 % 2 for row in rows) == {0: 10, 1: 10}


def test_the_labels_of_an_import_are_strata_too(tmp_path):
    # which stores them as numbers
    folder = tmp_path / "z"
    made = write_planted(folder, seeds=range(8), **{"label:topics": [1.0, 0.0]})
    assert len(draw_rows(made, 4, by="topics")) == 4


@pytest.mark.parametrize(
    ("by", "found"), [("height", "no such column"), ("by_source", "a column of lists of numbers")]
)
def test_what_has_no_strata_is_told_and_what_has(wide, by, found):
    with pytest.raises(DataError, match=rf"by '{by}': found {found}, expected one of ") as no:
        draw_rows(wide, 20, by=by)
    expected = str(no.value).split("expected one of ")[1].rstrip(".").split(", ")
    assert {"identity", "epochs", "score", "topics", "maker", "group"} <= set(expected)
    assert "by_source" not in expected


def test_all_is_a_sample_too(zoo):
    assert draw_rows(zoo, 900) == list(range(200))


def test_refusals(zoo, tmp_path):
    for count, problem in ((0, "at least 1"), (1, "the smallest has 2")):
        with pytest.raises(DataError, match=problem):
            draw_rows(zoo, count)
    with pytest.raises(DataError, match="nothing"):
        draw_rows(zoo, 4, by="nothing")
    (tmp_path / "x.csv").write_text("mine")
    with pytest.raises(FileError, match="there already"):
        write_list(zoo, [0], tmp_path / "x.csv")


def test_a_sample_is_a_zoo_with_the_same_loras(zoo, tmp_path):
    rows = draw_rows(zoo, 30)
    steps = []
    made = sample_zoo(
        zoo, rows, tmp_path / "s", drawn={"seed": 0}, progress=lambda *step: steps.append(step)
    )
    assert steps[-1] == (30, 30)
    assert made.column("id").tolist() == rows
    assert made.column("sha256").tolist() == zoo.column("sha256")[rows].tolist()
    assert made.groups() == [zoo.groups()[row] for row in rows]
    assert made.recipe["drawn"] == {"seed": 0, "loras": 30}
    assert verify_zoo(made.path).sound


def test_a_sample_of_a_base_that_is_completed_has_a_report(second_zoo, tmp_path):
    made = sample_zoo(second_zoo, [0], tmp_path / "s")
    assert made.report == second_zoo.report
    assert made.report["loras"] == 1


def test_a_list_can_be_read_by_an_import(zoo, tmp_path):
    path = write_list(zoo, [3, 8], tmp_path / "x.csv")
    with path.open() as file:
        first, second = csv.DictReader(file)
    assert (first["id"], first["group"], first["maker"], first["topics"]) == ("3", "g1", "b", "odd")
    assert second["topics"] == "big"
    assert float(first["score"]) == 0.75
