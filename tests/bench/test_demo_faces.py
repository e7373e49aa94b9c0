"""The demo's faces: a picture of people, likeness in words, attributes where there are enough LoRAs."""

import io

import pytest
import torch
from matplotlib.image import imread
from rich.console import Console

from lorascope.bench.demo_faces import ENOUGH, build_faces, draw_people, learn_attributes, likeness
from lorascope.core import LoRA, LowRank
from lorascope.core.lora import Provenance, Scale
from lorascope.io.shard_writer import ZooWriter
from lorascope.zoo.factory.recipe import recipe_of
from lorascope.zoo.families import FacesFamily

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A zoo of the faces family whose attributes stand in the direction of the update."""
    family = FacesFamily({"seed": 0})
    weight = dict(family.parts.unet.named_modules())[LAYER].weight
    draw = torch.Generator().manual_seed(0)
    u, v = (torch.randn(12, size, 1, generator=draw) for size in weight.shape)
    loras, rows = [], []
    for i in range(ENOUGH):
        has = torch.rand(12, generator=draw) < 0.5
        signs = 0.01 * (2.0 * has - 1)
        lora = LowRank(torch.cat(list(signs[:, None, None] * u), 1), torch.cat(list(v), 1))
        scale = {LAYER: Scale(12.0, 12, 1.0, "alpha/r")}
        loras.append(LoRA({LAYER: lora}, provenance=Provenance(base="faces", scales=scale)))
        scores = {"fidelity": 50.0 + i % 2, "fidelity_gain": 20.0, "clip_score": 60.0}
        labels = {**scores, "attributes": has.tolist(), "dataset_size": 10.0}
        others = dict.fromkeys(set(family.targets) - set(labels), 0.0)
        named = {f"label:{name}": value for name, value in (labels | others).items()}
        rows.append({"id": i, "seed": i, "group": f"person-{i // 2}", **named})
    writer = ZooWriter(
        tmp_path_factory.mktemp("planted") / "zoo", recipe_of(family, dtype=torch.float32, slots=8)
    )
    writer.add_shard(0, loras, rows)
    return writer.finish({})


def test_a_row_for_each_of_six_people(planted, tmp_path):
    image = imread(draw_people(planted, tmp_path / "new"))
    assert (tmp_path / "new" / "faces.png").is_file()
    height, width = image.shape[:2]
    assert width / height == pytest.approx(9 / 6, rel=0.01)


def test_likeness_is_said_before_and_after(planted):
    told = likeness(planted)
    assert "base 30.5, finetuned 50.5" in told
    assert told.endswith("finetuned 60.0")


def test_attributes_are_read_beside_controls(planted, tmp_path):
    console = Console(file=io.StringIO(), width=120)
    console.print(learn_attributes(planted, tmp_path, 1, processes=1))
    printed = console.file.getvalue()
    for word in ("majority", "norm only", "mlp", "kernel_cosine", "attributes"):
        assert word in printed
    assert (tmp_path / "faces" / "table.md").is_file()


@pytest.mark.slow
def test_a_zoo_of_two(tmp_path):
    assert len(build_faces(2, 0, tmp_path / "zoo")) == 2
