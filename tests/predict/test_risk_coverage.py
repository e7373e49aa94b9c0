import numpy as np
import pytest

from lorascope.errors import DataError
from lorascope.predict.risk_coverage import plot_risk_coverage, risk_coverage


def test_the_curve_is_the_running_mean_by_doubt():
    found = risk_coverage(np.array([3.0, 1.0, 2.0]), np.array([9.0, 0.0, 3.0]))
    np.testing.assert_allclose(found.coverage, [1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(found.risk, [0, 1.5, 4])
    assert found.random == 4
    assert found.area == pytest.approx(5.5 / 3)
    assert found.at(0.5) == pytest.approx(0.75)


def test_equal_doubts_are_answered_together():
    found = risk_coverage(np.zeros(4), np.array([0.0, 0.0, 1.0, 1.0]))
    assert found.coverage.tolist() == [1.0]
    assert found.area == found.random == 0.5


def test_knowing_the_loss_is_best_and_knowing_its_opposite_worst():
    loss = np.random.default_rng(0).exponential(size=200)
    best, worst = risk_coverage(loss, loss).area, risk_coverage(-loss, loss).area
    assert best < loss.mean() < worst


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(DataError, match="one"):
        risk_coverage(np.zeros(2), np.zeros(3))
    with pytest.raises(DataError, match="not finite"):
        risk_coverage(np.array([np.inf]), np.zeros(1))
    with pytest.raises(DataError, match="no curve"):
        plot_risk_coverage({}, tmp_path / "x.png")


def test_the_same_curves_give_the_same_bytes(tmp_path):
    curve = risk_coverage(np.arange(5.0), np.arange(5.0))
    one, two = (
        plot_risk_coverage({"a": curve}, tmp_path / name).read_bytes() for name in ("1", "2")
    )
    assert one == two
    assert one.startswith(b"\x89PNG")
