from dataclasses import replace

import numpy as np
import pytest
import torch

from lorascope.errors import TrainingError
from lorascope.models.build import build_model
from lorascope.train.checkpoint import load_checkpoint
from lorascope.train.loop import learning_rate, train_model
from lorascope.train.parts import loss_of
from lorascope.train.settings import Settings
from tests.planted import planted

DATA = planted(80)
TRAIN, HELD = DATA.select(np.arange(60)), DATA.select(np.arange(60, 80))
SETTINGS = Settings(epochs=6, batch_size=16, learning_rate=3e-3, patience=6)


def labelled(data, target):
    y = data.labels[target]
    return data.batch, torch.from_numpy((y - 10) / 3 if target == "score" else y)


def network(name="svd", target="score", **options):
    out = DATA.target(target).out_features
    return build_model(name, DATA.batch.signature, out, rank=3, seed=0, **options)


def run(model, settings=SETTINGS, target="score", **more):
    kind = DATA.target(target).kind
    return train_model(
        model,
        labelled(TRAIN, target),
        labelled(HELD, target),
        kind=kind,
        settings=settings,
        seed=7,
        **more,
    )


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("target", ["score", "sources", "kind"])
def test_training_lowers_the_loss(target):
    model = network(target=target)
    course = run(model, replace(SETTINGS, epochs=15), target)
    assert course.epochs[-1].train_loss < 0.7 * course.epochs[0].train_loss
    assert course.best_loss < course.epochs[0].validation_loss


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before():
    first, second, other = network("mlp"), network("mlp"), network("mlp")
    run(first)
    torch.rand(13)
    before = torch.get_rng_state()
    run(second)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights(first), weights(second))
    train_model(
        other,
        labelled(TRAIN, "score"),
        labelled(HELD, "score"),
        kind="regression",
        settings=SETTINGS,
        seed=8,
    )
    assert not torch.equal(weights(first), weights(other))


class KilledError(Exception):
    pass


@pytest.mark.parametrize("after", [0, 2, 4])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, after):
    """With dropout, so that the state of the random generators matters."""
    whole = network("mlp", dropout=0.3)
    expected = run(whole)

    def kill(epoch):
        if epoch.epoch == after:
            raise KilledError

    with pytest.raises(KilledError):
        run(network("mlp", dropout=0.3), checkpoint=(tmp_path, "me"), watch=kill)
    seen = []
    resumed = network("mlp", dropout=0.3)
    course = run(resumed, checkpoint=(tmp_path, "me"), watch=lambda epoch: seen.append(epoch.epoch))
    assert seen == list(range(after + 1, SETTINGS.epochs))
    assert torch.equal(weights(whole), weights(resumed))
    assert (course.best_epoch, course.best_loss) == (expected.best_epoch, expected.best_loss)


def test_a_finished_run_is_not_run_again(tmp_path):
    first, second = network(), network()
    run(first, checkpoint=(tmp_path, "me"))
    run(second, checkpoint=(tmp_path, "me"), watch=lambda epoch: pytest.fail("trained again"))
    assert torch.equal(weights(first), weights(second))
    assert load_checkpoint(tmp_path, "me") is not None


def test_it_stops_when_validation_no_longer_improves_and_keeps_the_best():
    """Labels of noise: the training set is learned by heart and validation gets worse."""
    noise = torch.Generator().manual_seed(0)
    train = (TRAIN.batch, torch.randn(60, 1, generator=noise, dtype=torch.float64))
    held = (HELD.batch, torch.randn(20, 1, generator=noise, dtype=torch.float64))
    settings = Settings(epochs=200, batch_size=16, learning_rate=1e-2, patience=5)
    model = network("mlp", dropout=0.0)
    course = train_model(model, train, held, kind="regression", settings=settings, seed=0)
    assert len(course.epochs) == course.best_epoch + 1 + 5 < 200
    with torch.no_grad():
        outputs = model(held[0])
    assert float(loss_of("regression", outputs, held[1].float())) == pytest.approx(
        course.best_loss, rel=1e-4
    )
    assert course.best_loss == min(epoch.validation_loss for epoch in course.epochs)


def test_bfloat16_learns_the_same_thing_with_float32_weights():
    full, low = network(), network()
    exact = run(full, replace(SETTINGS, epochs=10))
    rough = run(low, replace(SETTINGS, epochs=10, dtype="bfloat16"))
    assert low.dtype == torch.float32
    assert rough.best_loss == pytest.approx(exact.best_loss, rel=0.25)
    assert not torch.equal(weights(full), weights(low))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_learns_the_same_thing():
    exact, other = run(network()), run(network(), replace(SETTINGS, device="cuda"))
    assert other.best_loss == pytest.approx(exact.best_loss, rel=0.1)


def test_a_loss_that_is_never_finite_is_an_error_that_says_what_to_try():
    broken = (TRAIN.batch, torch.full((60, 1), float("inf"), dtype=torch.float64))
    with pytest.raises(TrainingError, match="lower learning rate"):
        train_model(
            network(),
            broken,
            labelled(HELD, "score"),
            kind="regression",
            settings=SETTINGS,
            seed=0,
        )


def test_a_run_that_diverges_late_keeps_its_best_epoch():
    model = network("mlp")
    poison = {"at": 3}

    def break_weights(epoch):
        if epoch.epoch == poison["at"]:
            with torch.no_grad():
                next(model.parameters()).fill_(float("nan"))

    course = run(model, watch=break_weights)
    assert course.best_epoch <= 3
    assert len(course.epochs) == 5
    assert torch.isfinite(weights(model)).all()


def test_the_rate_rises_then_falls_to_zero():
    settings = Settings(learning_rate=1.0, warmup=0.2)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 21)
    assert max(rates) == rates[20] == 1.0
    assert (np.diff(rates[:21]) > 0).all()
    assert (np.diff(rates[20:]) < 0).all()
    assert 0 < rates[-1] < 1e-3


def test_only_matrices_decay():
    from lorascope.train.loop import _optimizer

    groups = _optimizer(network("mlp"), SETTINGS).param_groups
    for group in groups:
        decays = group["weight_decay"] > 0
        assert all((p.ndim > 1) == decays for p in group["params"])
