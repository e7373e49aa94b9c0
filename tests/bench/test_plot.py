import numpy as np
from matplotlib.image import imread

from lorascope.bench.plot import write_plot
from lorascope.bench.results import Result
from lorascope.bench.table import build_table
from tests.bench.test_table import PLAN, RESULTS, TABLE


def test_the_picture_is_drawn_and_the_same_table_gives_the_same_bytes(tmp_path):
    write_plot(TABLE, tmp_path / "a.png")
    write_plot(TABLE, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    pixels = imread(tmp_path / "a.png")[..., :3]
    assert pixels.shape[1] > 600
    blue = np.abs(pixels - np.array([0x1B, 0x6C, 0xA8]) / 255).max(-1) < 0.02
    red = np.abs(pixels - np.array([0xD1, 0x49, 0x5B]) / 255).max(-1) < 0.02
    assert blue.sum() > 50  # svd and dense declare GL(r)
    assert red.sum() > 50  # mlp declares no symmetry


def test_other_numbers_give_another_picture(tmp_path):
    write_plot(TABLE, tmp_path / "a.png")
    changed = [*RESULTS, Result("abc", "score", "svd", 0, metrics={"r2": 0.1})]
    write_plot(build_table(PLAN, changed), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_a_failed_model_and_a_very_bad_score_leave_a_picture(tmp_path):
    few = [r for r in RESULTS if r.model not in ("dense", "mlp") and r.target == "score"]
    few.append(Result("abc", "score", "mlp", 0, metrics={"r2": -1e6}))
    write_plot(build_table(PLAN, few), tmp_path / "a.png")
    assert imread(tmp_path / "a.png").shape[1] > 600
