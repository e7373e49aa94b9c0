import pytest

from lorascope.cli import bundled
from lorascope.cli.bundled import bundled_predictors, bundled_sample, data_folder
from lorascope.errors import FileError
from lorascope.io import read_lora
from lorascope.predict import load_predictor


def test_the_package_brings_predictors_and_a_sample_that_fit():
    lora = read_lora(bundled_sample())
    for folder in bundled_predictors():
        prediction = load_predictor(folder).predict(lora)[0]
        assert prediction.coverage == 1
        assert prediction.warnings == ()


def test_they_are_small():
    folders = [*bundled_predictors(), bundled_sample()]
    size = sum(
        path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file()
    )
    assert size < 5_000_000


def test_a_package_without_data_says_so(monkeypatch, tmp_path):
    assert data_folder().is_dir()
    monkeypatch.setattr(bundled, "data_folder", lambda: tmp_path)
    with pytest.raises(FileError, match="not part of this installation"):
        bundled_predictors()
    with pytest.raises(FileError, match="not part of this installation"):
        bundled_sample()
