from lorascope.inspect.problem import Problem, Severity, coded, count, some, worst_first


def test_a_sentence_with_a_code_keeps_it():
    assert coded("no-config: unknown", Severity.NOTE, "x") == Problem(
        "no-config", Severity.NOTE, "unknown"
    )
    assert coded("who knows: what", Severity.NOTE, "x").code == "x"
    assert coded("plain", Severity.NOTE, "x").sentence == "plain"


def test_counts_are_words():
    assert [count("a" * n, "layer") for n in (0, 1, 2)] == ["0 layers", "1 layer", "2 layers"]
    assert count("ab", "entry") == "2 entries"
    assert some(["a", "b", "c", "d"]) == "a, b, c, ..."
    assert some(["a"]) == "a"


def test_the_worst_comes_first_and_the_order_stays():
    found = [Problem(str(i), s, "") for i, s in enumerate([*reversed(Severity), Severity.ERROR])]
    assert [problem.code for problem in worst_first(found)] == ["2", "3", "1", "0"]
