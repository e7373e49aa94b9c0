from pathlib import Path

import pytest
import torch

from lorascope.errors import DataError, FileError
from lorascope.zoo.factory.build import build_zoo
from lorascope.zoo.factory.rebuild import rebuild_loras
from lorascope.zoo.factory.restore import family_of
from lorascope.zoo.families.arc import ArcFamily
from lorascope.zoo.families.celeba import CelebaFamily
from lorascope.zoo.families.imagenette import ImagenetteFamily
from lorascope.zoo.families.pipeline.family import SAMPLED
from lorascope.zoo.families.published import PUBLISHED, published_family
from tests.zoo.bases.test_hub import cache
from tests.zoo.stand_ins import write_arc, write_language_base

__all__ = ["cache"]  # a fixture


def test_the_papers_zoos():
    counts = {name: recipe.count for name, recipe in PUBLISHED.items()}
    assert counts == {
        "celeba-sd14": 3900,
        "imagenette-sd14": 2046,
        "arc-qwen2-1.5b": 2000,
        "arc-llama3.2-3b": 2000,
    }


def test_a_line_says_what_each_target_means():
    nowhere = Path("nowhere")
    arc = ArcFamily(nowhere, nowhere)
    classes = ImagenetteFamily(nowhere, nowhere, nowhere, sampled=True)
    for family in (arc, classes):
        assert set(family.meanings) == set(family.targets)
    assert set(CelebaFamily.meanings) == {"attributes", "all_attributes", *SAMPLED}


def test_from_folders(diffusion_folder, celeba_folder, imagenette_folder, clip_folder, tmp_path):
    family = published_family(
        "celeba-sd14", base=diffusion_folder, data=str(celeba_folder), clip=clip_folder, seed=4
    )
    assert isinstance(family, CelebaFamily)
    assert (family.name, family.seed, family.photographs) == ("celeba-sd14", 4, 21)
    images = {"base": diffusion_folder, "data": imagenette_folder, "clip": clip_folder}
    assert not published_family("imagenette-sd14", **images).sampled
    base = write_language_base(tmp_path / "base")
    arc = published_family("arc-qwen2-1.5b", base=base, data=write_arc(tmp_path / "arc"))
    assert isinstance(arc, ArcFamily)
    assert arc.base_folder == base


def test_what_is_missing_is_said(cache, imagenette_folder, diffusion_folder, tmp_path):
    with pytest.raises(DataError, match="looking for the recipe 'cats'"):
        published_family("cats")
    with pytest.raises(FileError, match=r"CelebA's img_align_celeba/ .* Try --data FOLDER"):
        published_family("celeba-sd14", base=diffusion_folder)
    with pytest.raises(FileError, match=r"found no such folder. Expected a folder$"):
        published_family("celeba-sd14", data="owner/celeba", base=diffusion_folder)
    with pytest.raises(FileError, match=r"model CompVis/stable-diffusion-v1-4 from the Hub"):
        published_family("imagenette-sd14", data=imagenette_folder)
    with pytest.raises(FileError, match=r"the dataset allenai/ai2_arc from the Hub"):
        published_family("arc-qwen2-1.5b")
    arc = write_arc(tmp_path / "arc")
    with pytest.raises(FileError, match=r"meta-llama/Llama-3.2-3B .*accept the licence"):
        published_family("arc-llama3.2-3b", data=arc)
    with pytest.raises(FileError, match=r"model somebody/tuned from the Hub"):
        published_family("arc-llama3.2-3b", data=arc, base="somebody/tuned")
    with pytest.raises(FileError, match=r"no such folder. Expected a folder or a name on the Hub"):
        published_family("arc-llama3.2-3b", data=arc, base=tmp_path / "nowhere")
    with pytest.raises(FileError, match=r"there are no pictures in train/n01440764"):
        published_family("imagenette-sd14", data=tmp_path, base=diffusion_folder)


QUICK = {"processes": 0, "progress": False, "compile": False, "dtype": torch.float32}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch_dtype` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", ["celeba-sd14", "imagenette-sd14"])
def test_their_loras_are_made_again(
    name, diffusion_folder, celeba_folder, imagenette_folder, clip_folder, tmp_path
):
    data = celeba_folder if name == "celeba-sd14" else imagenette_folder
    folders = {"base": diffusion_folder, "data": data, "clip": clip_folder}
    own = {"photographs": 3, "steps": 1, "own_samples": 1} if name == "celeba-sd14" else {}
    family = published_family(name, **folders, ranges={"steps": {"choice": [3]}}, **own)
    zoo = build_zoo(family, 2, tmp_path / "zoo", **QUICK)
    (made,) = rebuild_loras(zoo.path, [1], **folders)
    assert made.comparison.verdict in ("same bytes", "close")
    with pytest.raises(DataError, match="--data, --clip is not given"):
        family_of(zoo.recipe, diffusion_folder)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_loras_of_arc_are_made_again(tmp_path):
    base = write_language_base(tmp_path / "base")
    data = write_arc(tmp_path / "arc")
    family = published_family("arc-qwen2-1.5b", base=base, data=data, seed=3)
    zoo = build_zoo(family, 1, tmp_path / "zoo", **QUICK)
    (made,) = rebuild_loras(zoo.path, [0], base=base, data=data)
    assert made.comparison.verdict in ("same bytes", "close")
    other = write_arc(tmp_path / "other", train=50)
    with pytest.raises(DataError, match=r"differs in \['options'\]"):
        rebuild_loras(zoo.path, [0], base=base, data=other)
