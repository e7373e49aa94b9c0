"""Modules made and run by LyCORIS itself: the oracle of the algorithms and of kohya's grammar."""

import torch
from lycoris.modules import get_module, make_module
from torch import Tensor, nn

from lorascope.core import Update
from tests.io.adapters import quiet


def filled(module: nn.Module, *, seed: int = 0) -> nn.Module:
    """The module with every parameter random (LyCORIS begins with zeros)."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 4
    return module


def saved(module: nn.Module, name: str) -> dict[str, Tensor]:
    """What LyCORIS writes of a module, under the keys of its files."""
    return {f"{name}.{slot}": t.detach().clone() for slot, t in module.custom_state_dict().items()}


def loaded(tensors: dict[str, Tensor], name: str, layer: nn.Module) -> nn.Module:
    """The module that LyCORIS' own loader makes of a file's tensors."""
    with quiet(), torch.no_grad():
        algorithm, params = get_module(tensors, name)
        return make_module(algorithm, params, name, layer)


def added(module: nn.Module, layer: nn.Module) -> Tensor:
    """What the module adds to the layer's weight, from what it answers to every unit input."""
    weight = layer.weight
    size = weight[0].numel()
    ones = torch.eye(size).reshape(size, *weight.shape[1:])
    with quiet(), torch.no_grad():
        module.org_forward = layer.forward
        return (module(ones) - layer(ones)).flatten(1).T.reshape(weight.shape)


def gap(update: Update, delta: Tensor) -> float:
    """Relative Frobenius error of an update, as its pair and as its dense self: the larger of both."""
    pair = update.to_low_rank()
    product = torch.einsum("nr,mr->nm", pair.u.double(), pair.v.double())
    dense = update.to(torch.float64).dense()
    return max(_error(product, delta), _error(dense, delta))


def _error(update: Tensor, delta: Tensor) -> float:
    update = update.reshape(delta.shape)
    return float((update - delta.double()).norm() / delta.double().norm())
