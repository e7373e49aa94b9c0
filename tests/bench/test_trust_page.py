import copy

import pytest

from lorascope.bench.trust_page import page_text, write_page


@pytest.fixture
def records(trust_records):
    return copy.deepcopy(trust_records[0])


def test_the_same_records_give_the_same_bytes(records, tmp_path):
    pages = [write_page(records, tmp_path / name / "trust.md") for name in "ab"]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    pictures = [page.parent / "pictures" / "risk-coverage.png" for page in pages]
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    assert "(pictures/risk-coverage.png)" in pages[0].read_text()


def test_every_measure_has_its_place(records):
    text = page_text(records)
    for title in ("Probabilities", "Intervals", "Outliers", "What abstention buys"):
        assert f"\n## {title}\n" in text
    assert (
        "40 test LoRAs, 40 of a second version of the base, 40 of a base of another seed." in text
    )
    assert "- home was not asked about home-conv: " in text
    assert "| home | score | " in text
    assert "| DoRA | 1.000; 1.00 |" in text
    assert "outliers on the splits of the seeds 0, 1, 2." in text
    assert "| all values | outlier score |" in text
    assert "![" not in text


def test_numbers_that_miss_what_is_asked_are_marked(records):
    run = records[0]["seeds"]["0"]
    run["intervals"] = [
        {
            "target": name,
            "kind": "regression",
            "metric": "r2",
            "score": None,
            "mean": mean,
            "std": 0.02,
            "lowest": 0.7,
            "highest": 1.0,
        }
        for name, mean in [("low", 0.8799), ("good", 0.9)]
    ]
    run["risk"]["rows"][0] |= {"at limit": 0.5, "at 1": 0.4}
    text = page_text(records)
    assert "Outside 0.88 to 0.92: low of home (0.880)." in text
    assert "| home | low | 0.880† | 0.020 | 0.700 | 1.000 | r2 - |" in text
    assert " 0.500‡ | " in text


def test_seeds_are_averaged_and_their_extremes_kept(records):
    first = records[0]["seeds"]["0"]
    records[0]["seeds"]["1"] = second = copy.deepcopy(first)
    for run, mean, low in ((first, 0.89, 0.8), (second, 0.91, 0.6)):
        run["intervals"] = run["intervals"][:1]
        run["intervals"][0] |= {"mean": mean, "std": 0.02, "lowest": low, "highest": 1.0}
    text = page_text(records)
    assert "seed 0, 1; outliers on the splits" in text
    assert "| 0.900 | 0.020 | 0.600 | 1.000 |" in text


def test_the_share_of_test_loras_inside_has_a_column_where_it_was_measured(records):
    run = records[0]["seeds"]["0"]
    for row, inside in zip(run["intervals"], (0.9123, 0.8765, None), strict=True):
        row["inside"] = inside
    heads = "| lowest | highest | test LoRAs inside | test score |"
    text = page_text(records)
    assert heads in text
    assert "| 0.912 | r2 " in text
    assert "| 0.876 | r2 " in text
    assert "| - | r2 " in text
    assert "*Test LoRAs inside*: of the predictor's own intervals" in text
    for row in run["intervals"]:
        del row["inside"]
    before = page_text(records)
    assert "| lowest | highest | test score |" in before
    assert "LoRAs inside" not in before.replace("LoRA of a new group lies inside", "")


def test_zoos_stand_beside_each_other(records):
    other = copy.deepcopy(records[0])
    other["zoo"]["name"] = "away"
    other["splits"] = {"0": {"outliers": [], "rows": {}, "seconds": 0.0}}
    other["seeds"]["0"]["probabilities"] = []
    other["seeds"]["0"]["risk"]["parts"] = {"test": 40}
    text = page_text([*records, other])
    assert "| kind | home | away |" in text
    assert "40 test LoRAs; it has no other zoo of its kind" in text
    alone = page_text([other])
    assert "No zoo has a target of labels" in alone
