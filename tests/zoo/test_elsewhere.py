"""The engines on a device that is not there, and on a GPU where there is one."""

import pytest
import torch

from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.image.evaluate import guide_of
from lorascope.zoo.engine.image.fit import fit_images
from lorascope.zoo.engine.language.evaluate import weighted_loss
from lorascope.zoo.engine.language.fit import fit_adapters
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from tests.zoo.conftest import make_base, make_job
from tests.zoo.elsewhere import ELSEWHERE, Elsewhere
from tests.zoo.engine.image import conftest as images

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
WORDS = AdapterSpec(("q_proj", "v_proj"), rank=2, alpha=4.0)
PICTURES = AdapterSpec(("to_q", "to_v"), rank=2, alpha=4.0)


def word_jobs():
    return [make_job(seed, dropout=0.1 * (seed % 2)) for seed in range(4)]


def image_base():
    return images.make_base(images.make_unet())


@pytest.mark.parametrize("dora", [False, True])
def test_words_are_learned_and_asked_on_one_device(dora):
    base = FrozenBase.of(make_base(), torch.float32).to(device=ELSEWHERE)
    assert base.device == ELSEWHERE
    spec, job = WORDS.changed({"dora": dora}), make_job(1)
    with Elsewhere():
        fitted = fit_adapters(base, spec, word_jobs(), slots=2)
        loss = weighted_loss(base, spec, fitted, job.tokens, job.weights)
    assert fitted.rows.device.type == fitted.loss.device.type == loss.device.type == "cpu"
    assert fitted.rows.shape[0] == len(loss) == 4


@pytest.mark.parametrize("dora", [False, True])
def test_pictures_are_learned_and_drawn_on_one_device(dora):
    base = image_base().to(torch.float32, ELSEWHERE)
    spec = PICTURES.changed({"dora": dora})
    jobs = [images.make_job(seed) for seed in range(3)]
    with Elsewhere():
        fitted = fit_images(base, spec, jobs, slots=2)
        texts = torch.zeros(3, 2, 5, images.WIDTH)
        latents = torch.zeros(3, 2, *jobs[0].latents.shape[1:])
        drawn = guide_of(base, fitted, 3.0, models=2)(texts, texts[0, 0])(latents, 7)
    assert fitted.rows.device.type == "cpu"
    assert drawn.shape == latents.shape


def test_tensors_of_two_devices_are_noticed():
    with Elsewhere(), pytest.raises(RuntimeError, match="tensors of"):
        torch.zeros(3, 4, device=ELSEWHERE) @ torch.zeros(4, 2)


@pytest.mark.gpu
@GPU
def test_words_on_a_gpu_are_those_of_the_processor():
    here = FrozenBase.of(make_base(), torch.float64)
    there = here.to(device=torch.device("cuda"))
    a, b = (fit_adapters(base, WORDS, word_jobs(), slots=2) for base in (here, there))
    assert torch.allclose(a.rows, b.rows, rtol=1e-8, atol=1e-10)
    job = make_job(1)
    asked = [
        weighted_loss(base, WORDS, a, job.tokens, job.weights, slots=2) for base in (here, there)
    ]
    assert torch.allclose(*asked, rtol=1e-8)


@pytest.mark.gpu
@GPU
def test_pictures_on_a_gpu_are_those_of_the_processor():
    here = image_base()
    jobs = [images.make_job(seed) for seed in range(3)]
    a, b = (
        fit_images(base, PICTURES, jobs, slots=2)
        for base in (here, here.to(device=torch.device("cuda")))
    )
    assert torch.allclose(a.rows, b.rows, rtol=1e-7, atol=1e-9)
