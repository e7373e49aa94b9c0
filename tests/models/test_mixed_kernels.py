"""Mixed kernels: units, Nystroem, evening out, and that one set of weights says what all duals say."""

import torch

from lorascope.models.mixed_kernels import EVEN, Kernels, share

GENERATOR = torch.Generator().manual_seed(0)
X, Y = (torch.randn(12, width, generator=GENERATOR).double() for width in (5, 3))
CENTRES = Y[:4]


def near(a, b):
    return (-torch.cdist(a, b).square()).exp()


def kernels():
    return Kernels({"x": X}, {"near": near(Y, CENTRES)}, {"near": near(CENTRES, CENTRES)}, even="x")


def test_every_kernel_has_mean_variance_one():
    found = kernels()
    assert found.names == (EVEN, "x", "near")
    for kernel in found.kernels.values():
        assert abs(float(kernel.diagonal().mean() - kernel.mean()) - 1) < 1e-9


def test_likeness_to_landmarks_is_nearly_exact_among_them():
    found = kernels()
    shown = found.kernels["near"] * found.units["near"]
    torch.testing.assert_close(shown[:4, :4], near(CENTRES, CENTRES), rtol=0.02, atol=0.02)


def test_weights_say_what_the_duals_of_all_mixtures_say():
    found = kernels()
    mixtures = {"a": {"x": 2.0, "near": 1.0}, "b": {EVEN: 1.0}, "c": {"x": 0.5}}
    duals = torch.randn(3, 12, 2, generator=GENERATOR).double()
    expected = sum(
        found.mixed(mixture) @ dual for mixture, dual in zip(mixtures.values(), duals, strict=True)
    )
    weights = found.weights(share(found, mixtures, duals))
    assert {name: tuple(w.shape) for name, w in weights.items()} == {"x": (5, 2), "near": (4, 2)}
    said = X @ weights["x"] + near(Y, CENTRES) @ weights["near"]
    torch.testing.assert_close(said, expected)


def test_evening_out_lets_rare_numbers_speak():
    x = torch.tensor([[10.0, 0.1], [10.0, -0.1], [-10.0, 0.1], [-10.0, -0.1]])
    found = Kernels({"x": x}, {}, {}, even="x")
    # of the second number alone: a hundredth of the first in size, a hundredth in evened variance
    share_of_second = [
        float(k[0, 0] - k[0, 1]) / float(k[0, 0]) for k in (found.kernels["x"], found.kernels[EVEN])
    ]
    assert share_of_second[0] < 1e-3 < 1e-2 < share_of_second[1]


def test_a_constant_kernel_is_left_as_it_is():
    assert Kernels({"x": torch.ones(3, 1)}, {}, {}).units == {"x": 1.0}
