import numpy as np
import pytest

from lorascope.errors import DataError
from lorascope.predict.scaler import Scaler


def test_apply_standardises_and_undo_is_its_inverse():
    values = np.array([[3.0], [5.0], [10.0]])
    scaler = Scaler.of(values)
    scaled = scaler.apply(values)
    assert abs(scaled.mean()) < 1e-12
    assert abs(scaled.std() - 1) < 1e-12
    np.testing.assert_allclose(scaler.undo(scaled), values)


def test_equal_values_have_no_spread_to_divide_by():
    assert Scaler.of(np.full((7, 1), 0.1)).std == 1.0
    assert Scaler.of(np.full((3, 1), 1e-30)).std == 1.0


def test_small_values_keep_their_scale():
    assert Scaler.of(np.array([[0.0], [2e-6]])).std == pytest.approx(1e-6)


def test_json_round_trip():
    scaler = Scaler(2.0, 0.5)
    assert Scaler.from_json(scaler.to_json()) == scaler


@pytest.mark.parametrize(("mean", "std"), [(float("nan"), 1.0), (0.0, 0.0), (0.0, float("inf"))])
def test_scalers_that_cannot_be_undone_are_refused(mean, std):
    with pytest.raises(DataError, match="positive deviation"):
        Scaler(mean, std)
