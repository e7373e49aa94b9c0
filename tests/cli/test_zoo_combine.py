import csv

import pytest
import torch
from tests.zoo.factory.planted_zoo import planted_recipe, write_planted

from lorascope.io import open_zoo
from lorascope.io.shard_writer import ZooWriter


@pytest.fixture
def planted(tmp_path):
    return write_planted(tmp_path / "planted").path


def test_two_zoos_become_one(run, planted, tmp_path):
    recipe = planted_recipe(seed=1)
    other = write_planted(tmp_path / "other", seeds=[*range(50, 54), 1], recipe=recipe).path
    code, out, err = run("zoo", "merge", planted, other, "--out", tmp_path / "both")
    assert code == 0
    assert out.startswith("16 LoRAs: ")
    assert "ids of other: + 12" in err
    assert "1 copies left out" in err
    assert run("zoo", "verify", tmp_path / "both")[0] == 0
    assert open_zoo(tmp_path / "both").recipe["kind"] == "merged"


def test_one_zoo_is_no_merge(run, planted, tmp_path):
    code, out, err = run("zoo", "merge", planted, "--out", tmp_path / "both")
    assert (code, out) == (2, "")
    assert "two or more" in err


def test_a_sample_is_a_zoo_or_a_list(run, planted, tmp_path):
    code, out, err = run("zoo", "sample", planted, "--count", 6, "--out", tmp_path / "few")
    assert (code, err) == (0, "")
    assert out.startswith("6 LoRAs: ")
    assert run("zoo", "verify", tmp_path / "few")[0] == 0
    words = ("--count", 4, "--by", "maker", "--seed", 2, "--out", tmp_path / "few.csv")
    code, out, err = run("zoo", "sample", planted, *words)
    assert (code, err) == (0, "")
    with (tmp_path / "few.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4


def test_an_unknown_label_is_one_message(run, planted, tmp_path):
    code, out, err = run("zoo", "sample", planted, "--by", "height", "--out", tmp_path / "few")
    assert (code, out) == (2, "")
    assert "'height'" in err
    assert not (tmp_path / "few").exists()


def test_pictures_of_an_image_zoo(run, tmp_path):
    from tests.zoo.factory.test_pictures import planted

    from lorascope.zoo.factory.recipe import recipe_of
    from lorascope.zoo.families import FacesFamily

    family = FacesFamily({"seed": 0})
    writer = ZooWriter(tmp_path / "zoo", recipe_of(family, dtype=torch.float32, slots=8))
    rows = [{"id": i, "seed": i, "group": f"g{i}"} for i in range(3)]
    writer.add_shard(0, [planted(family, 0.1 * i) for i in range(3)], rows)
    writer.finish()
    png = tmp_path / "two.png"
    code, out, _ = run("zoo", "sample", tmp_path / "zoo", "--count", 2, "--pictures", png)
    assert (code, out.split(":")[0]) == (0, "2 LoRAs")
    assert png.read_bytes().startswith(b"\x89PNG")
    other = tmp_path / "other.png"
    drawn = ("zoo", "sample", tmp_path / "zoo", "--count", 2, "--pictures", other)
    code, _, err = run(*drawn, "--base", "faces-control")
    assert (code, other.exists()) == (2, False)
    assert "differs in ['base'," in err


def test_pictures_of_another_zoo_are_one_message(run, planted, tmp_path):
    code, out, err = run("zoo", "sample", planted, "--pictures", tmp_path / "x.png")
    assert (code, out) == (2, "")
    assert "'planted'" in err
    assert not (tmp_path / "x.png").exists()


def test_pictures_on_a_device_that_is_not_there_are_one_message(run, planted, tmp_path):
    png = tmp_path / "x.png"
    code, out, err = run("zoo", "sample", planted, "--pictures", png, "--device", "abacus")
    assert (code, out) == (2, "")
    assert "'abacus'" in err
