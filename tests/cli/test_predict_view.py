import math

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
    assert "-9  layer.9  (directions +1, +2)" in lines[1]
    assert "-1  2 other layers" in lines[-2]
    assert "+1  not accounted for" in lines[-1]


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
