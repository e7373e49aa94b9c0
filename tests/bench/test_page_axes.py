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
    assert rows["kernel_cosine"].split(" | ")[1] == "0"
    assert rows["mlp"].split(" | ")[1] != "0"


def test_the_share_of_skill_that_is_kept_is_shown(finished):
    text = "\n".join(axes(Summary(finished.asked, finished.runs)))
    second = text.split("The second version")[1].split("###")[0]
    assert " %)" in second
    assert " %)" not in text.split("A base of another seed")[1].split("###")[0]
