import pytest

from lorascope.errors import DataError, FileError
from lorascope.inspect.examine import examine
from lorascope.inspect.plot import plot_strength
from tests.inspect.files import write_kohya

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_picture_is_drawn(tmp_path):
    layers = {f"lora_unet_x_$a_{i}": (8, 8) for i in range(3)}
    facts = examine(write_kohya(tmp_path / "a$_b.safetensors", layers=layers)).facts
    path = plot_strength(facts, tmp_path / "new" / "a.png")
    assert path.read_bytes().startswith(PNG)
    assert [entry.name for entry in path.parent.iterdir()] == ["a.png"]


def test_what_was_not_measured_cannot_be_drawn(tmp_path):
    facts = examine(write_kohya(tmp_path / "a.safetensors"), headers=True).facts
    with pytest.raises(DataError, match="without --headers"):
        plot_strength(facts, tmp_path / "a.png")


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    facts = examine(write_kohya(tmp_path / "a.safetensors")).facts
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="Writing the picture"):
        plot_strength(facts, tmp_path / "file" / "a.png")
