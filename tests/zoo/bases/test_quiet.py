import pytest
from transformers import CLIPTextModel
from transformers.utils import logging

from lorascope.zoo.bases.faces.folder import faces_folder
from lorascope.zoo.bases.quiet import quiet_loading


@pytest.fixture
def bars():
    shown = logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
    yield
    if not shown:
        logging.disable_progress_bar()


def load():
    CLIPTextModel.from_pretrained(faces_folder("faces") / "text_encoder", local_files_only=True)


def test_bars_are_hidden_within_and_come_back(bars, capfd):
    with quiet_loading():
        load()
    assert "Loading weights" not in capfd.readouterr().err
    assert logging.is_progress_bar_enabled()
    load()
    assert "Loading weights" in capfd.readouterr().err


def test_they_come_back_after_an_error(bars):
    with pytest.raises(RuntimeError), quiet_loading():
        raise RuntimeError
    assert logging.is_progress_bar_enabled()
