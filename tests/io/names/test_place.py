"""Rows of fused matrices."""

from lorascope.io.names.place import Place


def test_equal_rows_and_a_wide_last_part():
    assert Place(("q", "k", "v")).sizes(12, 4) == (4, 4, 4)
    assert Place(("q", "k", "v")).sizes(13, 4) is None
    assert Place(("q", "k", "v", "mlp"), mlp=True).sizes(28, 4) == (4, 4, 4, 16)
    assert Place(("q", "k", "v", "mlp"), mlp=True).sizes(36, 4) is None  # a gated one is one layer
