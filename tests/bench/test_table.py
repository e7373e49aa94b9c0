import math

import pytest

from lorascope.bench.results import Plan, Result
from lorascope.bench.table import beats, build_table
from lorascope.predict.target import Target

SCORE, LOSS = Target("score", "regression"), Target("loss", "regression", metric="rmse")
CONTROLS = ("majority", "norm only")
PLAN = Plan(
    "zoo",
    {"score": "abc", "loss": "def"},
    100,
    (SCORE, LOSS),
    ("svd", "mlp", "dense"),
    CONTROLS,
    (0, 1, 2),
    ceilings={"score": {"r2": 0.9, "spearman": 0.95}},
)


def results(target, model, values, **fields):
    metric = {"score": "r2", "loss": "rmse"}[target]
    data = PLAN.data[target]
    return [
        Result(data, target, model, seed, model in CONTROLS, {metric: value}, **fields)
        for seed, value in enumerate(values)
    ]


RESULTS = [
    *results("score", "majority", [0.0, -0.1, 0.0]),
    *results("score", "norm only", [0.5, 0.4, 0.6]),
    *results("score", "svd", [0.6, 0.5, 0.7], parameters=10, seconds=2.0),
    *results("score", "mlp", [0.4, 0.5, 0.5]),
    *results("score", "dense", [0.1, -0.2, -0.1]),
    *results("loss", "majority", [2.0, 2.2, 2.1]),
    *results("loss", "norm only", [1.0, 1.1, 1.2]),
    *results("loss", "svd", [0.5, 0.6, 0.7]),
    *results("loss", "mlp", [1.5, 1.6, 1.7]),
    *results("loss", "dense", [3.0, 2.9, 3.5]),
]
TABLE = build_table(PLAN, RESULTS)


def cell(model, target):
    return next(row for row in TABLE.rows if row.name == model).cells[target]


def test_controls_stand_first_and_means_and_spreads_are_over_seeds():
    assert [row.name for row in TABLE.rows] == [*CONTROLS, "svd", "mlp", "dense"]
    assert cell("svd", "score").mean == pytest.approx(0.6)
    assert cell("svd", "score").spread == pytest.approx(0.1)
    assert TABLE.models()[0].parameters == 10
    assert TABLE.models()[0].seconds == 1.0


def test_what_does_not_beat_its_controls_is_known_in_both_directions():
    for target in ("score", "loss"):
        assert cell("svd", target).loses_to is None
        assert cell("mlp", target).loses_to == "norm only"
        assert not cell("mlp", target).below_majority
        assert cell("dense", target).below_majority
        assert TABLE.best(target) == "svd"


def test_a_gain_must_exceed_its_standard_error_and_is_paired_by_seed():
    control = {0: 0.1, 1: 0.5, 2: 0.9}
    assert beats({0: 0.2, 1: 0.6, 2: 1.0}, control, 1.0)  # small, but on every split
    assert not beats({0: 0.9, 1: 0.3, 2: 0.4}, control, 1.0)  # higher on one split only
    assert not beats(control, control, 1.0)
    assert beats({0: 0.2}, control, 1.0)
    assert not beats({0: 0.2}, control, -1.0)
    assert not beats({7: 0.2}, control, 1.0)


def test_the_ceiling_is_that_of_the_metric_in_the_table():
    assert TABLE.ceiling(SCORE) == 0.9
    assert TABLE.ceiling(LOSS) is None


def test_results_of_other_data_are_left_out_and_the_last_of_several_counts():
    stale = Result("old", "score", "svd", 0, metrics={"r2": 0.99})
    newer = Result("abc", "score", "svd", 0, metrics={"r2": 0.3})
    found = build_table(PLAN, [*RESULTS, stale, newer]).models()[0].cells["score"]
    assert found.scores[0] == 0.3


def test_missing_and_failed_runs_leave_a_cell_without_scores():
    failed = Result("abc", "score", "svd", 0, error="DataError: too large")
    table = build_table(PLAN, [failed, Result("abc", "score", "mlp", 0, metrics={"r2": None})])
    svd, mlp = (table.models()[i].cells["score"] for i in (0, 1))
    assert svd.error == "DataError: too large"
    assert math.isnan(svd.mean)
    assert math.isnan(mlp.spread)
    assert table.best("score") is None
    assert math.isnan(table.models()[2].seconds)
