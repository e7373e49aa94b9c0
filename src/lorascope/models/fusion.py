"""`fusion`, the default model: directions and sizes of updates, as kernels that share one set of weights.

    z      = [standardised log spectra and norms, which layers are there]
    x      = [core, left, right] of `cores`,  w = the leading principal components of the cores
    kernels  core, left, right, sizes:  inner products of these numbers
             even:   the same of cores, each entry divided by the root of its usual size
             near:   exp(-t |z - z'|^2 / typical), for three t
             turned: near (w . w'), for two t
    f      = sum over mixtures s of w_s f_s,  f_s = ridge with the kernels of a mixture added up

The strength of each ridge is chosen by leaving out groups, and how much it says by its left-out predictions
(`stacking`). `near` and `turned` compare with at most `landmarks` of the training LoRAs (Nystroem): so all
mixtures are linear in one finite list of numbers, and are added up into one map. No training LoRA is kept but
z and w of the landmarks.

Measured on 1,024 exam LoRAs: components w are better in `turned` than whole cores (R^2 of the accuracy .901
against .892, of the validation loss .731 against .689), because they leave out the noise of random A; stacking
gains .003 to .03 over the best mixture of each value. Labels are read best off `even` (sources: accuracy .984,
log loss .044, against .979 and .053): what all updates share is large, and says little of what each was shown.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.core.symmetry_kind import Symmetry
from lorascope.models.closed_form import ClosedForm, Labels, Study
from lorascope.models.cores import Cores, Views, default_width
from lorascope.models.logistic import calibrate
from lorascope.models.model import Features
from lorascope.models.smoother import Choice, Smoother
from lorascope.models.spectra import Sizes
from lorascope.models.stacking import mix, stack

__all__ = ["MIXTURES", "Fusion"]

NEAR = {"near_wide": 0.06, "near_middle": 0.25, "near_narrow": 1.0}
TURNED = {"turned_wide": "near_wide", "turned_middle": "near_middle"}
"""t of the kernels of nearness, and which of them is multiplied by likeness of direction."""

LINEAR = ("core", "left", "right", "sizes")
EVEN = "even"  # is linear in the numbers of "core"
LANDMARKED = (*NEAR, *TURNED)
BOTH = {"near_wide": 1.0, "near_middle": 1.0, "sizes": 1.0}
MIXTURES: Mapping[str, Mapping[str, float]] = {
    "directions": {"core": 1.0},
    "even": {EVEN: 1.0},
    "spaces": {"core": 1.0, "left": 1.0, "right": 1.0},
    "sizes": {**BOTH, "near_narrow": 1.0},
    "turned": {"near_wide": 1.0, "turned_wide": 1.0},
    "sum": {EVEN: 2.0, **BOTH},
    "all": {"core": 2.0, "left": 1.0, "right": 1.0, "near_narrow": 1.0, **BOTH}
    | {"turned_wide": 1.0, "turned_middle": 1.0},
}
"""Kernels of each mixture with their weights, in units of each kernel's own mean variance."""

COMPONENT_NUMBERS = 3_000_000  # most numbers of the map from cores to w: 12 MB
LEAST_SIZE = 1e-2  # of an entry against the mean: what hardly ever occurs must not speak loudest
JITTER = 1e-3  # of a landmark's own similarity: keeps the weights of near landmarks from cancelling
CHUNK = 256  # LoRAs seen at once
FARTHEST = (
    4.0  # deviations from the training mean that a size is taken at: other ranks are far away
)


class Fusion(ClosedForm):
    """Ridge regression on directions, sizes and their products, in several mixtures that are stacked.

    Source: ours. Kernels of directions and sizes as in `kernel_cosine` and `kernel_product`, Nystroem
    landmarks (Williams and Seeger 2001), stacking by left-out predictions (Breiman 1996).
    Equation: f = x . a + z . b + sum over landmarks of near_t (c_t + d_t w . w') + e; the parts stand at the
    top of the file.
    Under g: unchanged, since cores, their squares and spectra depend on u v^T alone. Symmetry: GL(r).
    Numbers learned: k for each number of x and z and 5 k a landmark, beside the directions (c sum (n + m)),
    the map to w (at most 3 million) and z and w of the landmarks. None of these grows with the training set.
    Cost: O((c r + r^2) sum (n + m)) per LoRA, then O(L c^2 + landmarks F). Fitting N LoRAs: eight eigenvalue
    problems of N x N, shared by all targets.
    Any rank; missing layers are zero, and the others then weigh more. Which are missing is told beside.

    Args:
        width: directions c of a layer's outputs and inputs, as many as the limits of `cores` allow by default.
        landmarks: most training LoRAs that `near` and `turned` compare with.
        components: principal components w of the cores.
    """

    name: ClassVar[str] = "fusion"
    symmetry: ClassVar[Symmetry] = Symmetry.GL
    accepts_missing: ClassVar[bool] = True
    solved: ClassVar[tuple[str, ...]] = (*LINEAR, *LANDMARKED, "intercept")

    typical: Tensor

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        width: int | None = None,
        landmarks: int = 1000,
        components: int = 64,
    ) -> None:
        super().__init__(signature, out_features, rank=rank, choose_by="left_out")
        self.options: dict[str, Any] = {
            "width": width,
            "landmarks": landmarks,
            "components": components,
        }
        self.most_landmarks = landmarks
        self.cores = Cores(signature, width or default_width(signature))
        self.sizes_of = Sizes(signature, values=rank)
        core = self.cores.widths[0]
        self.most_components = max(1, min(components, COMPONENT_NUMBERS // core))
        self.register_buffer("present_mean", torch.ones(len(signature)))
        self.register_buffer("typical", torch.ones(()))
        self.register_fitted("components", torch.zeros(core, 0))
        widths = (*self.cores.widths, self.sizes_of.width + len(signature))
        self.register_fitted("landmark_z", torch.zeros(0, widths[3]))
        self.register_fitted("landmark_w", torch.zeros(0, 0))
        for name, width_ in zip(LINEAR, widths, strict=True):
            self.register_buffer(name, torch.zeros(width_, out_features))
        # wide: the weights of landmarks that are near each other nearly cancel
        for name in LANDMARKED:
            self.register_fitted(name, torch.zeros(0, out_features, dtype=torch.float64))
        self.register_buffer("intercept", torch.zeros(out_features, dtype=torch.float64))

    # --- reading ------------------------------------------------------------------------------

    def features(self, batch: LoRABatch) -> Features:
        """core, left, right, z and w of each LoRA."""
        self.require_fitted(self.get_buffer("landmark_z"))
        views, z = self._see(batch)
        return (*views, z, views.core @ self.get_buffer("components"))

    def score(self, features: Features) -> Tensor:  # (b, k)
        """The one map that all mixtures were added up to."""
        assert isinstance(features, tuple)
        *linear, w = (part for part in features if isinstance(part, Tensor))
        out = self.get_buffer("intercept")
        for name, part in zip(LINEAR, linear, strict=True):
            out = out + part @ self.get_buffer(name)
        for name, kernel in self._landmark_kernels(linear[3], w).items():
            weights = self.get_buffer(name)
            out = out + kernel.to(weights.dtype) @ weights
        return out.to(self.dtype)

    def _see(self, batch: LoRABatch) -> tuple[Views, Tensor]:
        batch = batch.to(self.dtype, self.device)
        there = batch.present.to(self.dtype) - self.get_buffer("present_mean")
        z = self.sizes_of(batch).clamp(-FARTHEST, FARTHEST)
        return self.cores(batch), torch.cat([z, there], 1)

    def _landmark_kernels(self, z: Tensor, w: Tensor) -> dict[str, Tensor]:  # (b, M) each
        """`near` and `turned` between LoRAs and the landmarks."""
        # by a product, in float64: small distances survive, and it is faster than one by one in float32
        one, other = z.double(), self.get_buffer("landmark_z").double()
        far = one.square().sum(1, keepdim=True) - 2 * one @ other.T + other.square().sum(1)
        far = far.clamp(min=0) / self.typical
        near = {name: (-t * far).exp() for name, t in NEAR.items()}
        alike = w.double() @ self.get_buffer("landmark_w").double().T
        return near | {name: near[other] * alike for name, other in TURNED.items()}

    # --- fitting ------------------------------------------------------------------------------

    def prepare(self, batch: LoRABatch) -> None:
        """Stores directions and the statistics of sizes."""
        batch = batch.to(self.dtype, self.device)
        self.cores.fit(batch)
        self.sizes_of.fit(batch)
        self.get_buffer("present_mean").copy_(batch.present.to(self.dtype).mean(0))

    def study(self, batch: LoRABatch, held: LoRABatch | None = None) -> Study:
        """Directions, landmarks, what is seen of each LoRA, and the kernels between all of them."""
        self.prepare(batch)
        seen = [self._see(batch.select(slice(i, i + CHUNK))) for i in range(0, batch.size, CHUNK)]
        views = Views(*(torch.cat(column) for column in zip(*(v for v, _ in seen), strict=True)))
        z = torch.cat([z for _, z in seen])
        core = (views.core @ views.core.T).double()
        w = self._find_components(views.core, core)
        self._set_landmarks(z, w)
        return Study(batch.size, (*views, z, w, core))

    def _find_components(self, views: Tensor, gram: Tensor) -> Tensor:  # (b, F), (b, b) -> (b, d)
        """Stores the map to the leading principal components, and applies it."""
        values, vectors = torch.linalg.eigh(gram)
        real = values > 1e-6 * values[-1].clamp(min=1e-30)
        kept = values[real][-self.most_components :], vectors[:, real][:, -self.most_components :]
        components: Tensor = views.T @ (kept[1] * kept[0].rsqrt()).to(views.dtype)
        self.register_fitted("components", components)
        return views @ components

    def _set_landmarks(self, z: Tensor, w: Tensor) -> None:
        """Stores z and w of some LoRAs, and the median squared distance."""
        order = torch.randperm(len(z), generator=torch.Generator().manual_seed(0))
        rows = order[: self.most_landmarks].sort().values.to(z.device)
        self.register_fitted("landmark_z", z[rows].contiguous())
        self.register_fitted("landmark_w", w[rows].contiguous())
        apart = torch.pdist(z[rows[:1000]]).square()
        apart = apart[apart > 0]
        self.typical.copy_(apart.median() if apart.numel() else torch.ones(()))

    @torch.no_grad()
    def solve(self, study: Study, labels: Labels) -> None:
        """Solves all mixtures, stacks them, and adds them up into one map."""
        regression = labels.kind == "regression"
        y = labels.y if regression else 2 * labels.y - 1
        mean = y.mean(0)
        kernels = study.once((labels.key, "kernels"), lambda: self._kernels(study, labels.rows))
        found: list[tuple[Smoother, Choice]] = []
        for name, mixture in MIXTURES.items():
            make = partial(_smoother, kernels, mixture, labels.groups)
            smoother = study.once((labels.key, name), make)
            found.append((smoother, smoother.choose(y)))
        left_out = torch.stack([choice.left_out for _, choice in found])
        weights = stack(left_out, labels.y, labels.kind)
        dual = torch.zeros(len(MIXTURES), *y.shape, dtype=torch.float64, device=y.device)
        intercept = mean * (1 - weights.sum())
        for place, (smoother, choice) in enumerate(found):
            solution, offset = smoother.solve(y, choice.strength)
            dual[place] = weights[place] * solution
            intercept = intercept + weights[place] * offset
        if not regression:
            logit = calibrate(mix(left_out, weights, mean), labels.y, labels.kind)
            dual, intercept = dual * logit.slope, logit(intercept)
        self._add_up(kernels, dual)
        self.get_buffer("intercept").copy_(intercept)

    def _kernels(self, study: Study, rows: Tensor) -> "Kernels":
        parts = [part for part in study.facts if part is not None]
        linear = dict(zip(LINEAR, (part[rows] for part in parts[:4]), strict=True))
        landmarked = self._landmark_kernels(linear["sizes"], parts[4][rows])
        among = self._landmark_kernels(self.get_buffer("landmark_z"), self.get_buffer("landmark_w"))
        return Kernels(linear, landmarked, among, parts[5][rows][:, rows])

    def _add_up(self, kernels: "Kernels", dual: Tensor) -> None:  # (s, b, k)
        """Fills the weights of every number by the duals of the mixtures that use its kernel."""
        for name in (*LINEAR, *LANDMARKED):
            weights = kernels.weights(name, _share(name, dual))
            if name == "core":
                weights = weights + kernels.weights(EVEN, _share(EVEN, dual))
            if name in LINEAR:
                self.get_buffer(name).copy_(weights)
            else:
                self.register_fitted(name, weights)


class Kernels:
    """The kernels between some training LoRAs, each in units of its mean variance among them.

    `linear` are numbers (b, F) whose inner products are a kernel; `landmarked` similarities to landmarks
    (b, M), of which k(x, .) (K + jitter)^-1 k(., x') is the kernel, with `among` K of the landmarks; `core`
    the kernel of the first of the linear ones, which is known already.
    """

    def __init__(
        self,
        linear: Mapping[str, Tensor],
        landmarked: Mapping[str, Tensor],
        among: Mapping[str, Tensor],
        core: Tensor,
    ) -> None:
        self.linear, self.landmarked = linear, landmarked
        usual = linear["core"].square().mean(0).sqrt()
        typical = usual.square().mean().sqrt().clamp(min=torch.finfo(usual.dtype).tiny)
        self.evening = (usual / typical).clamp(min=LEAST_SIZE).rsqrt()
        self.solved = {
            name: _solve(among[name].double(), x.double().T) for name, x in landmarked.items()
        }
        even = linear["core"] * self.evening
        kernels = {"core": core, EVEN: (even @ even.T).double()}
        kernels |= {k: (x @ x.T).double() for k, x in linear.items() if k != "core"}
        kernels |= {k: x.double() @ self.solved[k] for k, x in landmarked.items()}
        self.units = {name: _variance(kernel) for name, kernel in kernels.items()}
        self.kernels = {name: kernel / self.units[name] for name, kernel in kernels.items()}

    def mixed(self, mixture: Mapping[str, float]) -> Tensor:  # (b, b)
        """The weighted sum of some kernels."""
        first, *others = mixture.items()
        total = first[1] * self.kernels[first[0]]
        for name, weight in others:
            total.add_(self.kernels[name], alpha=weight)
        return (total + total.T) / 2

    def weights(self, name: str, dual: Tensor) -> Tensor:  # (b, k) -> (F, k) or (M, k)
        """The weights of a kernel's own numbers that say what duals say."""
        dual = dual / self.units[name]
        if name == EVEN:
            even = self.linear["core"] * self.evening
            return self.evening.unsqueeze(1) * (even.T @ dual.to(even.dtype))
        if name in self.linear:
            return self.linear[name].T @ dual.to(self.linear[name].dtype)
        return self.solved[name] @ dual


def _share(name: str, dual: Tensor) -> Tensor:  # (s, b, k) -> (b, k)
    """What all mixtures together say through one kernel."""
    shares = [mixture.get(name, 0.0) for mixture in MIXTURES.values()]
    total: Tensor = torch.tensordot(dual.new_tensor(shares), dual, 1)
    return total


def _smoother(kernels: Kernels, mixture: Mapping[str, float], groups: Tensor | None) -> Smoother:
    return Smoother(kernels.mixed(mixture), groups)


def _solve(among: Tensor, beside: Tensor) -> Tensor:  # (M, M), (M, b) -> (M, b)
    """(K + jitter)^-1 k."""
    size = among.diagonal().mean().clamp(min=1e-30)
    eye = torch.eye(len(among), dtype=among.dtype, device=among.device)
    return torch.cholesky_solve(beside, torch.linalg.cholesky(among + JITTER * size * eye))


def _variance(kernel: Tensor) -> float:
    """Mean squared distance from the mean in the kernel's space; 1 for a constant."""
    size = float(kernel.diagonal().mean())
    variance = size - float(kernel.mean())
    return variance if variance > 1e-9 * size else 1.0
