import pytest

from lorascope.predict.outlier import Outliers
from lorascope.train.outlier_exam import PASS, examine_outliers, pretended
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


def test_the_same_seed_gives_the_same_kinds():
    one, two = (pretended(TEST, 3)["random"].groups[0].u for _ in range(2))
    assert bool((one == two).all())
