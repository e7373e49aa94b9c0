import pytest

from lorascope.core.batch import GroupBatch
from lorascope.predict.outlier import Outliers
from lorascope.train.outlier_exam import PASS, examine_outliers, pretended, size_of
from tests.predict.test_outlier import BATCH, HELD, TEST, TRAIN


@pytest.fixture(scope="module")
def rows():
    outliers = Outliers(BATCH.signature)
    outliers.fit(TRAIN, HELD)
    return {row.kind: row for row in examine_outliers(outliers, TEST, {"more": HELD})}


def test_what_should_pass_passes_and_the_rest_does_not(rows):
    assert rows["test"].auroc == 0.5
    assert rows["random"].auroc > 0.95
    assert all(rows[kind].flagged <= 0.15 for kind in PASS)
    assert rows["more"].count == HELD.size
    assert set(rows) == {*pretended(TEST), "more"}


def test_a_row_says_which_rule_catches_a_kind_and_how_large_it_is(rows):
    for row in rows.values():
        assert sum(row.rules.values()) == pytest.approx(1) or len(row.rules) in (0, 3)
        assert bool(row.rules) == (row.flagged > 0)
    assert next(iter(rows["random"].rules)).startswith("strange: ")
    assert rows["test"].size == pytest.approx(1, abs=0.05)
    assert rows["random"].size == pytest.approx(rows["test"].size, rel=1e-4)
    assert rows["sum of 2"].size > 1.5 * rows["mean of 2"].size
    half = TEST.with_groups([GroupBatch(g.u / 2, g.v) for g in TEST.groups])
    assert size_of(half, TEST) == pytest.approx(size_of(TEST, TEST) / 2)


def test_the_same_seed_gives_the_same_kinds():
    one, two = (pretended(TEST, 3)["random"].groups[0].u for _ in range(2))
    assert bool((one == two).all())
