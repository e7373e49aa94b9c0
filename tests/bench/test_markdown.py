import math

from lorascope.bench.markdown import cell, difference, folded, number, short, table
from lorascope.bench.summary import Estimate


def test_cells():
    assert cell(Estimate(0.5, 0.0123, 3)) == "0.500 ±.012"
    assert cell(Estimate(0.5, math.nan, 1), bold=True, mark="†") == "**0.500**†"
    assert cell(Estimate(math.nan, math.nan, 0)) == "-"
    assert difference(Estimate(0.5, 0.25, 2)) == "+0.500 ±.250"
    assert difference(Estimate(-0.5, 0.25, 2), bold=True) == "**-0.500 ±.250**"
    assert difference(Estimate(math.nan, math.nan, 0)) == "-"


def test_numbers():
    assert number(None) == number(math.nan) == "-"
    assert number(1.23456, 1) == "1.2"
    assert [short(x) for x in (12, 1234, 2_500_000, 3e9)] == ["12", "1.23k", "2.5M", "3G"]


def test_a_table_keeps_its_columns():
    lines = table(["", "a|b"], [["x", "two\nlines"]])
    assert lines == ["|  | a\\|b |", "| :-- | --: |", "| x | two lines |", ""]
    assert folded("more", lines)[1] == "<summary>more</summary>"
