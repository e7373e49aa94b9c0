import copy

import pytest

from lorascope.bench.trust_exam import CONTROL
from lorascope.bench.trust_kinds import MADE, MERGED, TELL, binomial_interval, outliers
from lorascope.bench.trust_methods import BY_PEFT, FULL, OLD_RANK, OTHER_METHODS, RATES
from lorascope.core.batch import collate
from lorascope.train.outlier_exam import PASS, pretended
from tests.planted import planted_loras


def row(kind, area, flagged, count=100, **more):
    plain = {"zoo": None, "count": count, "size": 1.0, "rules": {}}
    return {"kind": kind, "auroc": area, "flagged": flagged, **plain, **more}


def record(*splits, name="home"):
    """Splits of rows each."""
    found = {str(number): {"outliers": list(rows)} for number, rows in enumerate(splits)}
    return {"zoo": {"name": name}, "splits": found}


def text_of(*records):
    return "\n".join(outliers(records))


def test_every_kind_that_is_made_has_its_place():
    kinds = set(pretended(collate(planted_loras(12)[0])))
    assert kinds == {*PASS, *MADE, *MERGED}
    methods = {method + OLD_RANK for method in RATES} | set(RATES)
    assert set(OTHER_METHODS) == methods - {BY_PEFT, BY_PEFT + OLD_RANK, FULL}


def test_the_interval_of_a_share_is_that_of_the_binomial():
    # R: binom.test(15, 150)$conf.int
    assert binomial_interval(15 / 150, 150) == pytest.approx((0.05709, 0.15954), abs=1e-4)
    assert binomial_interval(0.0, 36) == pytest.approx((0.0, 0.0974), abs=1e-4)
    assert binomial_interval(1.0, 36) == pytest.approx((0.9026, 1.0), abs=1e-4)


def test_splits_have_their_mean_and_range_and_an_interval_of_one_split():
    text = text_of(
        record(
            [row("trained at rank 16", 0.7, 0.10, 150, rules={"apart": 1.0})],
            [row("trained at rank 16", 0.8, 0.08, 150, rules={"apart": 0.5, "strange: size": 0.5})],
            [row("trained at rank 16", 0.9, 0.12, 150, rules={"apart": 1.0})],
        )
    )
    line = next(line for line in text.splitlines() if line.startswith("| trained at rank 16 | 150"))
    assert line == (
        "| trained at rank 16 | 150 | 0.800 | 0.700 to 0.900 | 0.10 | 0.08 to 0.12 | 0.06 to 0.16 "
        "| 1.00 | apart 87 %, strange: size 13 % |"
    )
    assert "| trained at rank 16 | 0.800; 0.10 |" in text
    assert "interval holds 10 % (more LoRAs would have to decide): trained at rank 16" in text
    assert "Splits: 0, 1, 2." in text


def test_what_misses_is_marked_and_low_areas_are_printed():
    rows = [
        row("sum of 2", 0.31, 0.0, size=1.7),
        row("LoKr, old rank", 0.96, 0.9, 36),
        row(BY_PEFT, 0.6, 0.3, 36),
        row(CONTROL, 0.94, 0.5),
        row("second version of the base", 0.6, 0.3),
    ]
    text = text_of(record(rows))
    assert "| sum of 2 | 0.310; 0.00† |" in text
    assert "| LoKr, old rank | 0.960; 0.90 |" in text
    assert f"| {BY_PEFT} | 0.600; 0.30† |" in text
    assert "| second version of the base | 0.600; 0.30 |" in text
    missed = f"Missed: {BY_PEFT} on home, sum of 2 on home, {CONTROL} on home."
    assert missed in text
    assert (
        "| sum of 2 | 100 | 0.310 | 0.310 to 0.310 | 0.00 | 0.00 to 0.00 | 0.00 to 0.04 | 1.70 |"
        in text
    )
    assert text.index(f"| {BY_PEFT} |") < text.index(
        "| sum of 2 |"
    )  # what should pass stands first


def test_zoos_stand_beside_each_other_and_by_themselves():
    text = text_of(record([row("test", 0.5, 0.0)]), record([], name="away"))
    assert "| kind | home | away |" in text
    assert "### Outliers of home" in text
    assert "### Outliers of away" not in text
    assert set(MERGED) < set(TELL)


def test_the_same_records_give_the_same_tables(trust_records):
    records = trust_records[0]
    assert outliers(records) == outliers(copy.deepcopy(records))
    assert any(line.startswith("| DoRA | 1.000; 1.00 |") for line in outliers(records))
