"""Each adapter of a group against PEFT on the diffusers UNet, alone."""

import pytest
import torch

from lorascope.errors import TrainingError
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.image.alone import fit_image_alone
from lorascope.zoo.engine.image.base import layout_of
from lorascope.zoo.engine.image.fit import PictureLesson, fit_images, shape_of
from lorascope.zoo.engine.lanes import fit_lanes
from lorascope.zoo.engine.peft_model import adapted_layers
from tests.zoo.engine.image.conftest import LEVELS, make_base, make_job, make_unet, other_unet, read

MIXED = [
    {},
    {"batch_size": 2, "learning_rate": 1e-3, "steps": 5},
    {"batch_size": 2, "examples": 1},
    {"steps": 7, "weight_decay": 0.3, "clip_norm": 0.01},
    {"steps": 3, "examples": 5},
]
ATTENTION = AdapterSpec(("to_q", "to_v"), rank=2, alpha=3)
EVERYTHING = AdapterSpec(
    (
        *("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
        *("conv1", "conv2", "conv_shortcut", "time_emb_proj", "conv", "conv_in", "conv_out"),
        "linear_1",
    ),
    rank=2,
    alpha=3,
    rslora=True,
)


def alone(unet, spec, job):
    (text,) = read(job.prompt[None])
    model = fit_image_alone(unet, spec, job, text, LEVELS)
    found = {}
    for name, m in adapted_layers(model).items():
        found[name] = [m.lora_A.default.weight, m.lora_B.default.weight]
        if spec.dora:
            found[name].append(m.lora_magnitude_vector.default.weight)
        found[name] = [part.detach().clone() for part in found[name]]
    model.unload()
    return found


def distance(fitted, i, factors):
    """Largest relative distance over the numbers of adapter i."""
    worst = 0.0
    mine = fitted.layout.unpack(fitted.rows[i : i + 1])
    assert set(mine) == set(factors)
    for name, parts in factors.items():
        for own, other in zip(mine[name], parts, strict=False):
            assert other.norm() > 0
            worst = max(worst, float((own.flatten() - other.flatten()).norm() / other.norm()))
    return worst


def dora(spec):
    return AdapterSpec(spec.targets, spec.rank, spec.alpha, dora=True)


@pytest.mark.parametrize("spec", [ATTENTION, EVERYTHING, dora(ATTENTION), dora(EVERYTHING)])
def test_each_adapter_equals_peft_alone_in_float64(unet, spec):
    jobs = [make_job(seed, **changes) for seed, changes in enumerate(MIXED)]
    fitted = fit_images(make_base(unet), spec, jobs, slots=2)
    for i, job in enumerate(jobs):
        assert distance(fitted, i, alone(unet, spec, job)) < 1e-10
    assert fitted.finite.all()


@pytest.mark.parametrize("spec", [ATTENTION, EVERYTHING])
def test_another_layout_of_blocks(spec):
    unet = other_unet()
    jobs = [make_job(seed, side=10, **MIXED[seed]) for seed in range(2)]
    fitted = fit_images(make_base(unet), spec, jobs)
    for i, job in enumerate(jobs):
        assert distance(fitted, i, alone(unet, spec, job)) < 1e-10


def test_float32_equals_peft():
    unet = make_unet().float()
    jobs = [make_job(seed, steps=10, learning_rate=1e-3) for seed in range(2)]
    fitted = fit_images(make_base(unet, torch.float32), ATTENTION, jobs)
    for i, job in enumerate(jobs):
        factors = alone(unet, ATTENTION, job)
        # AdamW makes much of a gradient's rounding where it is nearly zero: some B are farther off
        assert distance(fitted, i, factors) < 2e-3
        row = torch.cat([part.flatten() for parts in factors.values() for part in parts]).detach()
        assert float((fitted.rows[i] - row).norm() / row.norm()) < 1e-5


class ExactGradients(PictureLesson):
    """Gradients in float64, whatever the adapters are in."""

    def loss(self, step, rows):
        return super().loss(step, rows.double())


def test_what_float32_loses_is_the_rounding_of_gradients(unet):
    """AdamW in float32 costs nothing: it is what makes much of the gradients' own rounding."""
    base, specs = make_base(unet), [ATTENTION] * 2
    jobs = [make_job(seed, steps=10, learning_rate=1e-3) for seed in range(2)]
    layout = layout_of(base, specs)
    lesson = ExactGradients(base, specs, layout, jobs, 2)
    fitted = fit_lanes(specs, layout, [lesson], torch.float32)
    for i, job in enumerate(jobs):
        assert distance(fitted, i, alone(unet, ATTENTION, job)) < 1e-5


def test_no_adapter_influences_another(unet):
    base = make_base(unet)
    jobs = [make_job(seed) for seed in range(4)]
    other = [jobs[0], make_job(8, learning_rate=1e200), jobs[2], make_job(9)]
    a, b = (fit_images(base, ATTENTION, each) for each in (jobs, other))
    assert b.finite.tolist() == [True, False, True, True]
    assert torch.equal(a.rows[[0, 2]], b.rows[[0, 2]])
    assert b.rows.isfinite().all()


def test_other_groups_give_the_same_adapter(unet):
    base = make_base(unet)
    jobs = [make_job(seed, steps=2 + seed) for seed in range(5)]
    together = fit_images(base, ATTENTION, jobs, slots=2)
    for i in (0, 4):
        single = fit_images(base, ATTENTION, [jobs[i]])
        gap = (single.rows[0] - together.rows[i]).norm() / single.rows[0].norm()
        assert float(gap) < 1e-12
        assert int(together.steps[i]) == jobs[i].steps
        assert float(single.loss[0]) == pytest.approx(float(together.loss[i]))


def test_adapters_of_different_ranks_share_a_group(unet):
    specs = [AdapterSpec(ATTENTION.targets, rank, 2 * rank) for rank in (1, 3)]
    jobs = [make_job(seed) for seed in range(2)]
    fitted = fit_images(make_base(unet), specs, jobs)
    for i, (spec, job) in enumerate(zip(specs, jobs, strict=True)):
        factors = alone(unet, spec, job)
        layers = fitted.to_lora(i).layers
        for name, (A, B) in factors.items():
            assert torch.allclose(layers[name].v, A.mT, rtol=1e-10, atol=1e-12)
            assert torch.allclose(layers[name].u, spec.factor * B, rtol=1e-10, atol=1e-12)


def test_bfloat16_stays_close():
    unet = make_unet().float()
    jobs = [make_job(seed, steps=20) for seed in range(2)]
    plain, fast = (
        fit_images(make_base(unet, dtype), ATTENTION, jobs)
        for dtype in (torch.float32, torch.bfloat16)
    )
    for i in range(2):
        for name, pair in plain.to_lora(i).layers.items():
            assert float(pair.cosine(fast.to_lora(i)[name])) > 0.97


def test_training_lowers_the_loss(unet):
    base = make_base(unet.float(), torch.float32)
    start, end = (
        fit_images(base, EVERYTHING, [make_job(0, learning_rate=rate, steps=30)]).loss
        for rate in (1e-9, 1e-2)
    )
    assert float(end) < 0.9 * float(start)


def test_what_does_not_fit_is_refused(unet):
    base = make_base(unet)
    with pytest.raises(TrainingError, match="to_q"):
        fit_images(base, AdapterSpec(("query",), rank=2, alpha=4), [make_job(0)])
    shape = shape_of(make_job(0, batch_size=2))
    assert (shape.batch_size, shape.length, shape.steps) == (2, 256, 4)
