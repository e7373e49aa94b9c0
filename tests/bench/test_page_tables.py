import pytest

from lorascope.bench.page_tables import differences, in_distribution, score_rows
from lorascope.bench.summary import Place, Summary
from tests.bench.conftest import SUITE


@pytest.fixture(scope="module")
def summary(finished):
    return Summary(finished.asked, finished.runs)


def test_a_row_for_every_method_and_one_for_the_ceiling(summary):
    lines = in_distribution(summary, "home")
    rows = [line.split(" | ")[0].strip("|* ") for line in lines[2:-1]]
    assert rows == [*summary.controls, *summary.methods, "label ceiling"]
    assert "0.980 ±.012" in lines[-2]


def test_what_predictors_keep_stands_beside_what_was_trained(summary):
    heads, _, *rows = in_distribution(summary, "home")
    place = heads.split(" | ").index("stored MB")
    assert heads.split(" | ").index("weights") == place - 1
    cells = {row.split(" | ")[0].strip("|* "): row.split(" | ") for row in rows if row}
    assert cells["kernel_cosine"][place - 1] == "0"
    assert float(cells["kernel_cosine"][place]) > 0
    assert cells["majority"][place] == ""


def test_the_best_is_bold_and_what_loses_is_marked(summary):
    (mlp,) = score_rows(summary, "home", ["mlp"])
    assert "‡" in mlp[list(summary.columns("home")).index("dataset_size") + 1]
    rows = score_rows(summary, "home", [*summary.controls, *summary.methods])
    for column in range(1, len(rows[0])):
        assert sum("**" in row[column] for row in rows) == 1
    assert not any("†" in row[1] or "‡" in row[1] for row in rows[: len(summary.controls)])


def test_differences_leave_the_default_out(summary):
    lines = differences(summary, Place("home"), list(SUITE.methods))
    names = [line.split(" | ")[0].strip("|* ") for line in lines if line.startswith("| ")]
    assert set(names[2:]) == set(SUITE.methods) - {"fusion"}
    assert differences(summary, Place("home"), ["mlp"]) == []
