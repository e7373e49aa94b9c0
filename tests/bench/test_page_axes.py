from lorascope.bench.page_axes import axes
from lorascope.bench.summary import Summary


def test_every_axis_has_its_section(finished):
    text = "\n".join(axes(Summary(finished.asked, finished.runs)))
    for title in (
        "Ranks that were not trained on: home",
        "The second version of the base",
        "A base of another seed",
        "The same LoRAs written otherwise",
        "How many LoRAs are needed",
        "Other targets, mixed ranks, convolutions, DoRA",
    ):
        assert f"### {title}" in text
    assert "mlp on home-rank-5: RankError" in text
    assert "SignatureError" in text


def test_nothing_changes_under_a_gauge_for_what_is_invariant(finished):
    text = "\n".join(axes(Summary(finished.asked, finished.runs)))
    section = text.split("written otherwise")[1].split("###")[0]
    rows = {line.split(" | ")[0].strip("|* "): line for line in section.splitlines()}
    moved = {
        name: float(row.split(" | ")[1].split(" / ")[1]) for name, row in rows.items() if "/" in row
    }
    assert 0 < moved["fusion"] < 1e-5  # of a prediction: a score of so few rows may stay as it is
    assert moved["kernel_cosine"] < 1e-3
    assert moved["mlp"] > 1e-2
    assert moved["majority"] == 0


def test_other_adapters_have_paired_differences(finished):
    text = "\n".join(axes(Summary(finished.asked, finished.runs)))
    kinds = text.split("### Other targets")[1]
    assert "home-conv: fusion minus every other method, paired by seed" in kinds


def test_how_many_loras_are_tested_is_said(finished):
    summary = Summary(finished.asked, finished.runs)
    low, high = summary.tested("home", "home-second")
    count = str(low) if low == high else f"{low} to {high}"
    assert f"**home -> home-second** ({count} of 20 LoRAs)" in "\n".join(axes(summary))


def test_the_share_of_skill_that_is_kept_is_shown(finished):
    text = "\n".join(axes(Summary(finished.asked, finished.runs)))
    second = text.split("The second version")[1].split("###")[0]
    assert " %)" in second
    assert " %)" not in text.split("A base of another seed")[1].split("###")[0]
