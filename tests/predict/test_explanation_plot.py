from lorascope.predict.explain import Explanation, Part
from lorascope.predict.explanation_plot import plot_explanation


def test_an_explanation_is_drawn_the_same_each_time(tmp_path):
    parts = (Part("a$b.q", 0.5, (0.4, 0.2), -0.1), Part("long." * 30, -0.2), Part("c", 0.0, (0.0,)))
    found = Explanation("sources", "red$", 1.0, 0.7, parts, "integrated")
    first = plot_explanation(found, tmp_path / "one.png").read_bytes()
    second = plot_explanation(found, tmp_path / "two.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    assert first == second


def test_many_layers_are_cut_to_the_largest(tmp_path):
    parts = tuple(Part(f"layer.{i}", float(i)) for i in range(300))
    found = Explanation("score", "", 1.0, 0.0, parts, "left_out")
    assert plot_explanation(found, tmp_path / "many.png").stat().st_size > 1000
