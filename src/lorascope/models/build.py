"""The one table from a model's name to its class, and the function that builds from it.

"auto" stands for the model that leads the benchmark, `DEFAULT`; a predictor stores the name that it stood for.
"""

import inspect
from typing import Any

import torch

from lorascope.core.signature import Signature
from lorascope.errors import DataError
from lorascope.models.closed_form import ClosedForm
from lorascope.models.deep_sets import DeepSets
from lorascope.models.dense import Dense
from lorascope.models.fusion import Fusion
from lorascope.models.gl_net import GLNet
from lorascope.models.kernel import KernelCosine, KernelProduct, KernelRaw, KernelSpectra
from lorascope.models.mlp import MLP
from lorascope.models.model import Model
from lorascope.models.mvprobe import MVProbe
from lorascope.models.o_align import OAlign
from lorascope.models.ridge import Ridge
from lorascope.models.sketch import Sketch
from lorascope.models.spectra_knn import SpectraKNN
from lorascope.models.spectral_statistics import SpectralStatistics
from lorascope.models.svd import SVD
from lorascope.models.transformer import Transformer
from lorascope.models.w2t import W2T

__all__ = [
    "AUTO",
    "DEFAULT",
    "MODELS",
    "build_model",
    "is_solved",
    "model_name",
    "model_options",
    "restrict",
]

AUTO, DEFAULT = "auto", Fusion.name

MODELS: dict[str, type[Model]] = {
    Fusion.name: Fusion,
    MLP.name: MLP,
    OAlign.name: OAlign,
    SVD.name: SVD,
    Dense.name: Dense,
    GLNet.name: GLNet,
    Transformer.name: Transformer,
    W2T.name: W2T,
    MVProbe.name: MVProbe,
    DeepSets.name: DeepSets,
    Ridge.name: Ridge,
    SpectralStatistics.name: SpectralStatistics,
    SpectraKNN.name: SpectraKNN,
    Sketch.name: Sketch,
    KernelRaw.name: KernelRaw,
    KernelCosine.name: KernelCosine,
    KernelSpectra.name: KernelSpectra,
    KernelProduct.name: KernelProduct,
}


def model_name(name: str) -> str:
    """The name in the table: "auto" becomes that of the default model.

    Raises DataError for a name that is not in the table.

    Example:
        >>> model_name("auto")
        'fusion'
    """
    name = DEFAULT if name == AUTO else name
    if name not in MODELS:
        raise DataError(
            f"Building a model: found the name {name!r}, "
            f"expected {AUTO} or one of {', '.join(sorted(MODELS))}"
        )
    return name


def model_options(name: str) -> dict[str, Any]:
    """The options of the model `name` with their defaults.

    Raises DataError for a name that is not in the table.
    """
    parameters = inspect.signature(MODELS[model_name(name)].__init__).parameters.values()
    fixed = ("self", "signature", "out_features", "rank")
    return {p.name: p.default for p in parameters if p.name not in fixed}


def is_solved(name: str) -> bool:
    """Whether the model is solved at once: it knows no passes over the data, and no checkpoints of them.

    Raises DataError for a name that is not in the table.

    Example:
        >>> is_solved("auto"), is_solved("gl_net")
        (True, False)
    """
    return issubclass(MODELS[model_name(name)], ClosedForm)


def build_model(
    name: str,
    signature: Signature,
    out_features: int,
    *,
    rank: int,
    seed: int | None = None,
    **options: Any,
) -> Model:
    """Builds an untrained model; the same seed gives the same weights.

    `rank` is the rank of the training LoRAs, which models of bounded rank take as their maximum.
    Without a seed the weights are drawn from torch's global generator. Raises DataError for a name
    or an option that does not exist.

    Example:
        >>> build_model("mlp", signature, 3, rank=4, seed=0, hidden=64)(batch).shape
        torch.Size([3, 3])
    """
    known = model_options(name)
    if unknown := sorted(set(options) - set(known)):
        raise DataError(
            f"Building the model {name!r}: found the option {unknown[0]!r}, "
            f"expected one of {', '.join(known) or 'none'}"
        )
    make: Any = MODELS[model_name(name)]
    if seed is None:
        model: Model = make(signature, out_features, rank=rank, **options)
        return model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make(signature, out_features, rank=rank, **options)
    return model


def restrict(model: Model, columns: slice) -> Model:
    """The same model with some of its outputs only: what several targets were trained in is taken apart.

    The outputs are found by what differs between an empty model of all outputs and one of these.

    Example:
        >>> restrict(build_model("mlp", signature, 3, rank=4), slice(1, 3)).out_features
        2
    """
    start, stop, _ = columns.indices(model.out_features)
    few, all_ = (
        build_model(model.name, model.signature, count, rank=model.rank, seed=0, **model.options)
        for count in (stop - start, model.out_features)
    )
    shapes, whole = few.state_dict(), all_.state_dict()
    state = {}
    for name, tensor in model.state_dict().items():
        for axis in range(tensor.ndim):
            if shapes[name].shape[axis] != whole[name].shape[axis]:
                tensor = tensor.narrow(axis, start, stop - start)
        state[name] = tensor.clone()
    if few.dtype != model.dtype:  # not to the same: what is kept wide would lose its last digits
        few.to(model.dtype)
    few.to(model.device).load_state_dict(state)
    return few.train(model.training)
