import pytest
import torch

from lorascope.errors import DataError, FileError, TrainingError
from lorascope.zoo.bases.faces.folder import faces_folder
from lorascope.zoo.bases.faces.unet import noise_levels
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.image.base import layout_of, load_image_base, noise_levels_of
from tests.zoo.engine.image.conftest import make_base, make_unet


def test_the_layout_counts_kernels_and_norms():
    base = make_base(make_unet())
    layout = layout_of(base, [AdapterSpec(("conv1", "attn1.to_q"), 2, 2, dora=True)])
    weight = base.unet.weights["mid_block.resnets.0.conv1.weight"]
    assert layout.shapes["mid_block.resnets.0.conv1"] == (16, 16 * 9, (3, 3))
    norms = weight.square().sum((1, 2, 3)).sqrt()
    assert torch.allclose(layout.norms["mid_block.resnets.0.conv1"], norms)
    assert all("attn2" not in name for name in layout.shapes)
    with pytest.raises(TrainingError, match="to_q"):
        layout_of(base, [AdapterSpec(("q_proj",), 2, 2)])


def test_a_pipeline_folder_is_a_base():
    base = load_image_base(faces_folder(), torch.bfloat16, False)
    assert base.dtype == torch.bfloat16
    assert base.unet.packed is None
    assert torch.allclose(base.levels.float(), noise_levels(), atol=1e-6)
    assert base.read(torch.ones(2, 22, dtype=torch.int64)).shape == (2, 22, 64)
    assert base.to(torch.float64).dtype == torch.float64


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(FileError, match="no unet/"):
        load_image_base(tmp_path, torch.float32, False)
    (tmp_path / "scheduler_config.json").write_text(
        '{"_class_name": "DDPMScheduler", "prediction_type": "v_prediction"}'
    )
    with pytest.raises(DataError, match="v_prediction"):
        noise_levels_of(tmp_path)


def test_an_opened_base_knows_the_exact_one():
    exact = make_base(make_unet(), torch.float32)
    base = exact.opened(torch.bfloat16, 2)
    assert (base.dtype, base.exact_steps, base.exact) == (torch.bfloat16, 2, exact)
    assert base.later is base
    assert exact.opened(torch.float32, 2) is exact
    assert base.to(torch.float32).exact is None
