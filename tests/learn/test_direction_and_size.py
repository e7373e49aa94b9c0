"""What a symmetry is good for, shown by learning: labels that only a direction, or only a size, tells.

direction   update_l = sum_c y_c a_cl b_cl^T, y_c in {-1, 1}: every LoRA has nearly the same spectrum
size        update_l = s a_l b_l^T with a random pair of directions for each LoRA
"""

import numpy as np
import pytest
import torch

from lorascope.core.lora import LoRA, Provenance
from lorascope.core.low_rank import LowRank
from lorascope.predict.target import Target
from lorascope.symmetry import act
from lorascope.train import control_predictions, fit, group_split, label_loras, scores

pytestmark = pytest.mark.slow
SHAPES = {"a.q": (24, 20), "a.v": (12, 20), "b.q": (24, 20)}
SIGNS = Target("signs", "multilabel", tuple("pqr"))
SIZE = Target("size", "regression")


def random_gauge(draw):
    """Any g in GL(3) of condition at most about 10, so that signs and order of columns say nothing."""
    left, right = (torch.linalg.qr(torch.randn(3, 3, generator=draw)).Q for _ in range(2))
    return left * (1 + 9 * torch.rand(3, generator=draw)) @ right


def pair(u, v, draw):
    g = random_gauge(draw)
    return LowRank(u @ g, v @ torch.linalg.inv(g).T)


def collection(count, make, target, labels):
    loras = [LoRA(make(row), {}, Provenance(base="base")) for row in range(count)]
    groups = [str(row) for row in range(count)]
    return label_loras(loras, {target.name: labels}, [target], groups=groups)


@pytest.fixture(scope="module")
def directions():
    draw = torch.Generator().manual_seed(0)
    fixed = {
        name: (torch.randn(n, 3, generator=draw), torch.randn(m, 3, generator=draw))
        for name, (n, m) in SHAPES.items()
    }
    y = torch.randint(0, 2, (600, 3), generator=draw)

    def make(row):
        signs = 2.0 * y[row] - 1
        noise = {n: 0.3 * torch.randn(a.shape, generator=draw) for n, (a, _) in fixed.items()}
        return {n: pair(a * signs + noise[n], b, draw) for n, (a, b) in fixed.items()}

    return collection(600, make, SIGNS, y.numpy())


@pytest.fixture(scope="module")
def sizes():
    draw = torch.Generator().manual_seed(1)
    size = torch.randn(400, generator=draw).numpy()

    def make(row):
        return {
            name: pair(
                float(np.exp(size[row])) * torch.randn(n, 3, generator=draw),
                torch.randn(m, 3, generator=draw),
                draw,
            )
            for name, (n, m) in SHAPES.items()
        }

    return collection(400, make, SIZE, size)


@pytest.mark.parametrize(
    "model", ["dense", "gl_net", "kernel_raw", "kernel_cosine", "kernel_product"]
)
def test_directions_are_read_by_what_sees_the_update(directions, model):
    assert fit(directions, "signs", model=model).held_out["accuracy"] > 0.9


@pytest.mark.parametrize("model", ["svd", "ridge", "kernel_spectra"])
def test_directions_are_hidden_from_spectra(directions, model):
    assert fit(directions, "signs", model=model).held_out["accuracy"] < 0.62


def test_flat_factors_of_random_gauge_say_much_less(directions):
    """The update is quadratic in the numbers, so that a flat network learns a part of it, slowly."""
    flat = fit(directions, "signs", model="mlp").held_out["accuracy"]
    assert flat < fit(directions, "signs", model="dense").held_out["accuracy"] - 0.1


@pytest.mark.parametrize("model", ["svd", "ridge", "gl_net", "kernel_spectra", "kernel_product"])
def test_sizes_are_read_by_what_sees_spectra(sizes, model):
    assert fit(sizes, "size", model=model).held_out["r2"] > 0.9


def test_sizes_are_all_that_the_norm_control_needs(sizes):
    split = group_split(sizes.groups, seed=0)
    predicted = control_predictions("norm only", sizes, "size", split)
    assert scores(SIZE, sizes.labels["size"][split.test], predicted)["r2"] > 0.9


def test_sizes_are_hidden_from_cosines(sizes):
    assert fit(sizes, "size", model="kernel_cosine").held_out["r2"] < 0.2


def test_a_new_gauge_moves_no_prediction_of_an_invariant_model(directions):
    loras = directions.batch.select(slice(0, 20)).unbind()
    draw = torch.Generator().manual_seed(5)
    turned = [
        LoRA(
            {name: act(random_gauge(draw), p) for name, p in lora.layers.items()},
            {},
            lora.provenance,
        )
        for lora in loras
    ]
    for model, moves in (("gl_net", False), ("kernel_product", False), ("mlp", True)):
        predictor = fit(
            directions, "signs", model=model, **({} if "kernel" in model else {"epochs": 5})
        )
        before, after = (
            np.array([list(p.probabilities.values()) for p in predictor.predict(x)])
            for x in (loras, turned)
        )
        assert (np.abs(before - after).max() > 0.01) == moves, model


def test_more_loras_teach_more(directions):
    few = directions.select(np.arange(60))
    small = fit(few, "signs", model="kernel_cosine").held_out["log_loss"]
    large = fit(directions, "signs", model="kernel_cosine").held_out["log_loss"]
    assert large < small
