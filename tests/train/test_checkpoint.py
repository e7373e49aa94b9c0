import pickle

import pytest
import torch

from lorascope.errors import DataError, IntegrityError
from lorascope.train.checkpoint import NAME, load_checkpoint, save_checkpoint

STATE = {"model": {"w": torch.arange(3.0)}, "epochs": [{"loss": 0.5}], "cuda": None}


def test_what_is_saved_comes_back_and_no_other_file_is_left(tmp_path):
    save_checkpoint(tmp_path / "run", "me", STATE)
    save_checkpoint(tmp_path / "run", "me", STATE)
    found = load_checkpoint(tmp_path / "run", "me")
    assert torch.equal(found["model"]["w"], STATE["model"]["w"])
    assert found["epochs"] == STATE["epochs"]
    assert [path.name for path in (tmp_path / "run").iterdir()] == [NAME]


def test_no_checkpoint_is_none(tmp_path):
    assert load_checkpoint(tmp_path, "me") is None


def test_the_checkpoint_of_another_run_is_refused(tmp_path):
    save_checkpoint(tmp_path, "me", STATE)
    with pytest.raises(DataError, match="another run"):
        load_checkpoint(tmp_path, "you")


def test_a_damaged_checkpoint_is_refused(tmp_path):
    save_checkpoint(tmp_path, "me", STATE)
    content = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(content[: len(content) // 2])
    with pytest.raises(IntegrityError, match="cannot be read"):
        load_checkpoint(tmp_path, "me")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    (tmp_path / NAME).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(IntegrityError, match="cannot be read"):
        load_checkpoint(tmp_path, "me")
