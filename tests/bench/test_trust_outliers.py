import pytest

from lorascope.bench.trust_exam import CONTROL, DORA, SECOND, examine_split, read
from lorascope.bench.trust_outliers import PAIRS
from lorascope.errors import DataError
from lorascope.train.merges import COUNTS
from lorascope.train.outlier_exam import PASS
from tests.planted import planted


@pytest.fixture
def rows(trust_records):
    records, _ = trust_records
    return {row["kind"]: row for row in records[0]["splits"]["0"]["outliers"]}


def test_there_is_a_row_of_each_kind(rows):
    assert set(PASS) < set(rows)
    assert rows["test"]["auroc"] == 0.5
    assert rows[CONTROL]["zoo"] == "home-control"
    assert rows[CONTROL]["auroc"] > 0.95
    assert rows[SECOND]["auroc"] < 0.7  # the planted second version differs in its value alone
    assert rows["trained at rank 2"]["count"] == 20
    for count in COUNTS:
        for kind in ("weighted mean of", "sum of", "TIES of", "mean of factors of"):
            assert rows[f"{kind} {count}"]["count"] == rows["test"]["count"]


def test_a_row_says_what_catches_its_kind_and_how_large_it_is(rows):
    assert rows[CONTROL]["rules"]
    assert all(0 < share <= 1 for share in rows[CONTROL]["rules"].values())
    assert rows["test"]["size"] == pytest.approx(1, abs=0.1)
    assert rows["sum of 3"]["size"] > rows["weighted mean of 3"]["size"]


def test_side_tensors_decide_as_they_do_in_predict(rows):
    assert (rows[DORA]["auroc"], rows[DORA]["flagged"]) == (1.0, 1.0)
    assert rows[DORA]["rules"] == {"tensors beside the factors": 1.0}
    assert rows[DORA + PAIRS]["flagged"] < 0.5
    assert CONTROL + PAIRS not in rows


def test_adapters_of_no_zoo_are_asked_about_too(trust_asked):
    home = read(trust_asked, "home")
    made = {"of my own": home.parts["home-control"].data.batch}
    found = examine_split("home", home.data, {}, made, 1)
    row = next(row for row in found["outliers"] if row["kind"] == "of my own")
    assert row["zoo"] is None
    assert row["auroc"] > 0.95
    assert sum(found["rows"].values()) == len(home.data)


def test_too_few_loras_are_refused():
    with pytest.raises(DataError, match="at least 20 of each"):
        examine_split("small", planted(40), {}, {}, 0)
