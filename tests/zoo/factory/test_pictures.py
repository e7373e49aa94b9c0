"""Samples with a LoRA on the base, by peft, beside those of the base alone."""

import pytest
import torch
from matplotlib.image import imread

from lorascope.core import LoRA, LowRank
from lorascope.core.lora import Provenance, Scale
from lorascope.errors import DataError
from lorascope.io.shard_writer import ZooWriter
from lorascope.zoo.factory.pictures import EACH, one_row, write_pictures
from lorascope.zoo.factory.recipe import recipe_of
from lorascope.zoo.families import FacesFamily
from tests.zoo.factory.planted_zoo import write_planted

LAYERS = [
    f"down_blocks.1.attentions.0.transformer_blocks.0.attn1.{name}" for name in ("to_q", "to_v")
]


@pytest.fixture(scope="module")
def family():
    return FacesFamily({"seed": 0})


def planted(family, size):
    """An adapter of random factors on two layers of the UNet."""
    draw = torch.Generator().manual_seed(1)
    modules = dict(family.parts.unet.named_modules())
    layers = {}
    for name in LAYERS:
        n, m = modules[name].weight.shape
        u, v = (torch.randn(k, 4, generator=draw) for k in (n, m))
        layers[name] = LowRank(size * u, size * v)
    scales = dict.fromkeys(layers, Scale(4.0, 4, 1.0, "alpha/r"))
    return LoRA(layers, provenance=Provenance(base="faces", scales=scales))


def test_an_adapter_changes_samples_and_one_of_zero_does_not(family):
    kinds = one_row(family, 0, planted(family, 0.0)).split(EACH)
    torch.testing.assert_close(kinds[1], kinds[2])
    before, after = one_row(family, 0, planted(family, 0.5)).split(EACH)[1:]
    assert torch.equal(before, kinds[1])
    assert float((after - before).abs().mean()) > 0.01
    assert torch.equal(kinds[0], family.draw(0).pictures[:EACH])


def test_a_row_of_a_png_for_each_lora(family, tmp_path):
    writer = ZooWriter(tmp_path / "zoo", recipe_of(family, dtype=torch.float32, slots=8))
    rows = [{"id": i, "seed": i, "group": f"g{i}"} for i in range(2)]
    writer.add_shard(0, [planted(family, 0.1 * i) for i in range(2)], rows)
    path = write_pictures(writer.finish(), [0, 1], tmp_path / "x.png")
    image = imread(path)
    assert image.shape[1] > 4 * image.shape[0]
    assert image.std() > 0.05


def test_samples_of_a_base_that_is_completed(second_zoo, tmp_path):
    assert imread(write_pictures(second_zoo, [0], tmp_path / "x.png")).std() > 0.05


def test_a_zoo_of_another_kind_is_refused(exam_zoo, tmp_path):
    with pytest.raises(DataError, match="makes no images"):
        write_pictures(exam_zoo, [0], tmp_path / "x.png")
    zoo = write_planted(tmp_path / "zoo")
    with pytest.raises(DataError, match="'planted'"):
        write_pictures(zoo, [0], tmp_path / "x.png")
