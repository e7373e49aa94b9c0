import math
import re

import pytest
from rich.console import Console

from lorascope.cli.predict_view import Tally, explained_in_words, quality, show
from lorascope.io.results import without_nan
from lorascope.predict import Prediction, Target
from lorascope.predict.explain import Explanation, Part

SCORE = Target("s", "regression", unit="dB")


def document(prediction):
    """As it comes from a results file."""
    return without_nan(prediction.to_json())


def answer(**more):
    """The document of a file of which nothing was said."""
    empty = {"path": "file", "predictions": [], "errors": [], "ambiguities": [], "left": []}
    return empty | more


def shown(answered):
    """What is printed of a document on stdout, and on stderr."""
    out, err = (Console(record=True, width=200, quiet=False, file=Nowhere()) for _ in range(2))
    show(answered, out, err)
    return out.export_text(), err.export_text()


class Nowhere:
    """A stream that keeps nothing."""

    def write(self, text):
        return len(text)

    def flush(self):
        pass


def test_how_good_such_answers_are():
    held = Prediction(SCORE, value=1.0, held_out={"rmse": 0.5, "r2": None})
    assert quality(document(held)) == "(held out: rmse 0.5)"
    assert quality(document(Prediction(SCORE, value=1.0))) == ""


def test_explanations_in_words():
    parts = tuple(Part(f"layer.{i}", float(-i), (1.0, 2.0)) for i in range(10))
    explanation = Explanation("s", "", -40.0, 4.0, parts, "integrated")
    lines = explained_in_words(explanation.to_json())
    assert "s: -40, baseline 4; change from the baseline:" in lines[0]
    assert lines[1].endswith("-9  layer.9  (directions +1, +2)")
    assert "-1  2 other layers" in lines[-2]
    assert "+1  not accounted for" in lines[-1]


def test_the_printed_parts_of_a_layer_add_up_to_it():
    parts = (
        Part("v", -0.039, (-0.131, 0.0, 0.0), 0.092),
        Part("k", 0.1575, (0.2, -0.1, 0.05, 0.03, 0.02, 0.01), -0.0525, 0.0),
    )
    explanation = Explanation("s", "", 1.0, 0.8815, parts, "integrated")
    k, v = explained_in_words(explanation.to_json())[1:3]
    assert "(directions -0.131, +0, +0; sizes +0.092)" in v
    assert "+0.03, 2 others +0.03; sizes -0.0525; magnitudes +0)" in k
    for line in (k, v):
        layer, own = line.split("(")
        printed = [float(x) for x in re.findall(r"[+-][\d.]+", own)]
        assert sum(printed) == pytest.approx(float(layer.split()[0]), abs=1e-3)


def test_answers_of_earlier_versions_are_shown_as_far_as_they_say():
    explanation = Explanation("s", "", 1.0, 0.5, (Part("v", 0.5, (0.1,)),), "integrated").to_json()
    del explanation["parts"][0]["sizes"], explanation["parts"][0]["magnitudes"]
    assert explained_in_words(explanation)[1].endswith("v  (directions +0.1)")


def test_abstention_and_warnings_are_shown():
    odd = Prediction(
        SCORE, value=1.0, outlier=3.0, reason="unusual size", warnings=("base: \x1b[2J",)
    )
    out, err = shown(answer(predictions=[document(odd)], errors=["no \x1b"]))
    assert "abstains: unusual size (outlier score 3.00, limit 1)" in out
    assert "warning: base: \\x1b[2J" in out
    assert err == "Error: file: no \\x1b\n"
    endless = Prediction(SCORE, value=1.0, outlier=math.inf, reason="r")
    assert "outlier score nan" in shown(answer(predictions=[document(endless)]))[0]


def test_what_the_file_leaves_open_is_a_note():
    left = answer(ambiguities=["scale: alpha is \x1b assumed"], left=["oft: 3 modules"])
    out, _ = shown(left)
    assert "  note: scale: alpha is \\x1b assumed\n  note: oft: 3 modules\n" in out


def test_the_tally_counts_files():
    good = document(Prediction(SCORE, value=1.0, outlier=0.5))
    odd = document(Prediction(SCORE, value=1.0, outlier=3.0, reason="unusual size"))
    tally = Tally()
    for one in (
        answer(predictions=[good]),
        answer(predictions=[good, odd], ambiguities=["scale: x"]),
        answer(predictions=[good], errors=["other: no"], left=["oft: y"]),
        answer(errors=["no"]),
    ):
        tally.add(one)
    assert tally.to_json() == {
        "files": 4,
        "predicted": 3,
        "abstained": 1,
        "uncertain": 2,
        "refused": 2,
    }
    assert tally.told() == "2 refused"
    assert tally.sentence().endswith(" s: 3 predicted, 1 abstained, 2 uncertain, 2 refused")
    assert tally.sentence(3).startswith("4 LoRAs (3 of them before) in ")
