"""The UNet: cheap, with attention that LoRAs can adapt, trained on the schedule that it samples by."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lorascope.zoo.bases.faces import unet as module
from lorascope.zoo.bases.faces.pictures import FIRST, draw_pool
from lorascope.zoo.bases.faces.unet import new_scheduler, new_unet, noise_levels, train_unet


def test_sixteen_matrices_of_64_by_64_can_be_adapted():
    adapted = [
        part.weight.shape
        for name, part in new_unet().named_modules()
        if isinstance(part, nn.Linear) and name.split(".")[-1] in ("to_q", "to_v")
    ]
    assert adapted == [(64, 64)] * 16


def test_a_pass_costs_21_million_multiplications():
    unet = new_unet()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        unet(torch.zeros(1, 4, 8, 8), 0, torch.zeros(1, 22, 64))
    assert counter.get_total_flops() / 2 < 21.5e6
    assert sum(p.numel() for p in unet.parameters()) < 1.01e6


def test_the_schedule_is_that_of_the_scheduler():
    assert torch.allclose(noise_levels(), new_scheduler().alphas_cumprod, rtol=1e-4)


def test_training_lowers_the_loss_and_goes_on_from_a_start(brief_base, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 16)
    pool, told = draw_pool(FIRST, 60, 0), []
    parts = brief_base.vae, brief_base.text_encoder, brief_base.tokenizer
    unet = train_unet(pool, *parts, steps=25, progress=lambda *said: told.append(said[3]))
    assert sum(told[-5:]) < 0.95 * sum(told[:5])
    before = unet.conv_in.weight.clone()
    later = train_unet(pool, *parts, start=unet, seed=5, steps=1, rate=1e-4)
    assert torch.allclose(later.conv_in.weight, before, atol=1e-3)
    assert not torch.equal(later.conv_in.weight, before)
