from lorascope.bench.published import HEADS, PUBLISHED, published


def test_every_model_has_every_number_and_the_data_are_said_to_be_others():
    assert all(len(values) == len(HEADS) for values in PUBLISHED.values())
    text = "\n".join(published())
    assert "other bases, other data and other splits" in text
    assert "| GL-net | .884 ±.003 | .913 |" in text
