"""A picture of the labels: of every kind, the same twice."""

from matplotlib.image import imread

from lorascope.zoo.factory.label_plot import class_shares, write_label_plot


def test_shares_of_classes():
    assert class_shares(["a", "b"], [[True, False], [True, True]]) == [1.0, 0.5]
    assert class_shares(["a", "b"], ["b", "b", "a", "b"]) == [0.25, 0.75]
    assert class_shares(["a", "b"], [1, 1, 0, 1]) == [0.25, 0.75]


def test_a_panel_for_each_target(exam_zoo, tmp_path):
    path = write_label_plot(exam_zoo, tmp_path / "labels.png")
    image = imread(path)
    assert image.std() > 0.05
    wide, high = image.shape[1], image.shape[0]
    assert wide / high == 960 / 432  # four targets in two rows of three
    before = path.read_bytes()
    assert write_label_plot(exam_zoo, tmp_path / "again.png").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.png", "labels.png"]
