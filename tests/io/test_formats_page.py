"""The page of formats says what the reader does."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from lorascope.errors import FileError
from lorascope.io.read import FORMATS, read_lora, sniff
from lorascope.io.write import WRITERS
from tests.io.accounting import values_in, values_of, without_effect
from tests.io.formats_page import ROWS, page

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_is_measured():
    made = "Try: python -m tests.io.formats_page > docs/formats.md"
    assert (ROOT / "docs/formats.md").read_text(encoding="utf-8") == page(), made


def test_every_cell_is_filled_and_every_oracle_has_its_test():
    for row in ROWS:
        assert all((row.format, row.exact, row.writes, row.oracle))
        assert (ROOT / row.test).is_file(), row.test


def test_every_dialect_has_a_row(tmp_path):
    found = set()
    for place, row in enumerate(ROWS):
        folder = tmp_path / str(place)
        folder.mkdir()
        found.add(sniff(row.make(folder)).format)
    assert found == {*FORMATS, "gguf"} - {"original"}
    assert WRITERS == ("peft", "kohya")


# Whose updates hold other values than the file: a middle is multiplied in, zeros around blocks are cut away.
# There every single value is changed, and must change what is read.
EXPANDED = ("with and without a middle", "split_qkv")


def test_no_value_of_a_file_is_lost(tmp_path):
    counted = 0
    for place, row in enumerate(ROWS):
        folder = tmp_path / str(place)
        folder.mkdir()
        path = row.make(folder)
        if path.suffix == ".safetensors" and outcome_of(path) != "refused":
            if not any(part in row.format for part in EXPANDED):
                assert values_of(read_lora(path)) == values_in(load_file(path)), row.format
            counted += 1
    assert counted > 15


@pytest.mark.parametrize(
    "what", [*EXPANDED, "LyCORIS: LoHa", "a factor decomposed", "two whole factors"]
)
def test_no_value_is_without_effect(what, tmp_path):
    (row,) = [row for row in ROWS if what in row.format]
    path = row.make(tmp_path)
    alpha = [f"{key}[0]" for key in load_file(path) if key.endswith(".alpha")]
    assert set(without_effect(path, tmp_path)) <= set(alpha if what == "two whole factors" else ())


def outcome_of(path):
    try:
        return read_lora(path).provenance.outcome
    except FileError:
        return "refused"
