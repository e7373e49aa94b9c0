import logging

from lorascope.zoo.bases import base_facts
from lorascope.zoo.bases.exam.__main__ import main


def test_each_kind_is_made_from_the_command_line(tmp_path, caplog):
    first, second = tmp_path / "first", tmp_path / "second"
    with caplog.at_level(logging.INFO):
        main(["first", str(first), "--steps", "1"])
        main(["second", str(second), "--first", str(first), "--steps", "1"])
        main(["control", str(tmp_path / "control"), "--model", "qwen", "--steps", "1"])
    assert "step 1 of 1" in caplog.text
    assert "its own scores" in caplog.text
    seeds = [base_facts(tmp_path / name).command.split()[-3] for name in ("first", "control")]
    assert seeds == ["0", "1"]
    assert "second FOLDER --model qwen" in base_facts(second).command
