"""Guided noise of many adapters against PEFT's models, one by one."""

import pytest
import torch

from lorascope.zoo.bases.faces.sampler import single
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.image.alone import fit_image_alone
from lorascope.zoo.engine.image.evaluate import different, guide_of
from lorascope.zoo.engine.image.fit import fit_images
from tests.zoo.engine.image.conftest import LEVELS, WIDTH, make_base, make_job, make_unet, read


@pytest.mark.parametrize(
    ("targets", "dora"),
    [
        (("to_q", "to_v", "conv1"), False),
        (("to_q", "to_v", "conv1"), True),
        (("to_q", "time_emb_proj"), False),
        (("linear_1", "time_emb_proj"), True),
    ],
)
def test_guided_noise_equals_peft_alone(targets, dora):
    unet, spec = make_unet(), AdapterSpec(targets, rank=2, alpha=2, dora=dora)
    jobs = [make_job(seed) for seed in range(3)]
    fitted = fit_images(make_base(unet), spec, jobs)
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(3, 4, 5, WIDTH, generator=generator, dtype=torch.float64)
    texts[:, 2] = texts[:, 1]
    empty = torch.randn(5, WIDTH, generator=generator, dtype=torch.float64)
    latents = torch.randn(3, 4, 4, 8, 8, generator=generator, dtype=torch.float64)
    for models in (1, 2):
        found = guide_of(make_base(unet), fitted, 3.0, models=models)(texts, empty)(latents, 17)
        for i, job in enumerate(jobs):
            model = fit_image_alone(unet, spec, job, *read(job.prompt[None]), LEVELS)
            with torch.no_grad():
                wanted = single(model, texts[i], empty[None], 3.0)(latents[i], 17)
            model.unload()
            assert torch.allclose(found[i], wanted, rtol=1e-9, atol=1e-10)


def test_equal_neighbours_are_read_once():
    texts = torch.tensor([[1.0, 1, 2, 2, 1], [3, 3, 3, 4, 4]])[..., None, None]
    kept, rows = different(texts)
    assert kept.tolist() == [0, 2, 3, 4]
    assert rows.tolist() == [0, 0, 1, 2, 3]
