"""The command: its arguments, and what it tells while training."""

import logging

import pytest
from matplotlib.image import imread

from lorascope.zoo.bases.faces.__main__ import Log, main


def test_progress_is_a_line_every_hundred_steps_and_at_the_end(caplog):
    caplog.set_level(logging.INFO)
    log = Log()
    for step in range(1, 151):
        log("vae", step, 150, float(step))
    assert [record.getMessage() for record in caplog.records] == [
        "vae: step 100 of 150, loss 50.5000",
        "vae: step 150 of 150, loss 125.5000",
    ]


def test_another_base_than_the_three_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["fourth", "folder"])
    assert "control" in capsys.readouterr().err


def test_samples_are_written_as_a_picture(brief_folder, tmp_path):
    main(["samples", str(tmp_path / "samples.png"), "--first", str(brief_folder)])
    assert imread(tmp_path / "samples.png").shape[:2] == (3 * 34 * 2, 11 * 34 * 2)
