"""`fusion`, the default model: directions and sizes of updates, as kernels that share one set of weights.

    z      = [standardised log spectra and norms, which layers are there]
    x      = [core, left, right] of `cores`,  w = the leading principal components of the cores
    kernels  core, left, right, sizes:  inner products of these numbers
             even:   the same of cores, each entry divided by the root of its usual size
             near:   exp(-t |z - z'|^2 / typical), for three t
             turned: near (w . w'), for two t
             magnitudes: inner products of `MagnitudeFeatures`, where training LoRAs have DoRA's magnitudes
    h      = a first look: what stacked ridges on all of these say of everything that is known of the training
             LoRAs (every label, every hyper-parameter), each LoRA's own group being left out
    kernels  hint:  h . h',   and near_t(h, h') for three t
    f      = sum over mixtures s of w_s f_s,  f_s = ridge with the kernels of a mixture added up

The strength of each ridge is chosen by leaving out groups, and how much it says by its left-out predictions
(`stacking`). `near`, `turned` and those of h compare with at most `landmarks` of the training LoRAs (Nystroem):
so all mixtures are linear in one finite list of numbers, and are added up into one map. No training LoRA is
kept but z, w and h of the landmarks.

A score is a crooked function of few things (what was learned, how long, how fast), each of which is nearly
linear in the update: so the second look is taken at the answers of the first. On one split of 2,000 exam LoRAs
R^2 of the validation loss rises from .778 to .798, on LoRAs of the base's next version from .564 to .675. A
third look, or both in one kernel, gains nothing: the left-out error then praises what it has seen.

Measured on 1,024 exam LoRAs: components w are better in `turned` than whole cores (R^2 of the accuracy .901
against .892), because they leave out the noise of random A. Labels are read best off `even` (sources: accuracy
.984, log loss .044, against .979 and .053): what all updates share is large, and says little of what each was
shown.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorascope.core.batch import LoRABatch
from lorascope.core.signature import Signature
from lorascope.core.symmetry_kind import Symmetry
from lorascope.layers.matmul import matmul_to_few
from lorascope.models.closed_form import ClosedForm, Labels, Study
from lorascope.models.cores import Cores, default_width
from lorascope.models.magnitudes import MagnitudeFeatures
from lorascope.models.mixed_kernels import EVEN, Kernels, Mixture, share
from lorascope.models.model import Features
from lorascope.models.smoother import Smoother
from lorascope.models.spectra import Sizes
from lorascope.models.stacked_ridges import smoothers_of, stack_each, stack_ridges
from lorascope.symmetry.roots import gram_roots

__all__ = ["MIXTURES", "SECOND_LOOK", "Fusion"]

NEAR = {"near_wide": 0.06, "near_middle": 0.25, "near_narrow": 1.0}
TURNED = {"turned_wide": "near_wide", "turned_middle": "near_middle"}
"""t of the kernels of nearness, and which of them is multiplied by likeness of direction."""
HINT = {"hint_wide": 0.06, "hint_middle": 0.25, "hint_narrow": 1.0}

LINEAR = ("core", "left", "right", "sizes")
LANDMARKED = (*NEAR, *TURNED)
BOTH = {"near_wide": 1.0, "near_middle": 1.0, "sizes": 1.0}
MIXTURES: Mapping[str, Mixture] = {
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
MAGNITUDES = "magnitudes"  # numbers, kernel and mixture of LoRAs that have them
SECOND_LOOK: Mapping[str, Mixture] = {
    "hinted": {"hint": 1.0, "hint_wide": 1.0, "hint_middle": 1.0},
    "hinted_narrow": {"hint_wide": 1.0, "hint_middle": 1.0, "hint_narrow": 1.0},
}

OF_MAGNITUDES = (MAGNITUDES, "to_hint_" + MAGNITUDES)
COMPONENT_NUMBERS = 2_000_000  # most numbers of the map from cores to w: 8 MB
HINT_NUMBERS = 2_500_000  # of the map to h: 10 MB
MAP_NUMBERS = 3_000_000
"""Most numbers of the map from x and z to the answer at full width. Where there are more (forty labels at the
shapes of Stable Diffusion 1.4 have six million), both maps keep the 8 bits of bfloat16: a folder holds half as
much, and errors of single weights average out (answers move by about 1/1000 of their deviation)."""
CHUNK = 256  # LoRAs seen at once
FARTHEST = 4.0  # deviations from the mean that sizes and hints are cut at: other ranks are far


class Fusion(ClosedForm):
    """Ridge regression on directions, sizes and their products, then on its own answers, all stacked.

    Source: ours. Kernels of directions and sizes as in `kernel_cosine` and `kernel_product`, Nystroem
    landmarks (Williams and Seeger 2001), stacked generalisation by left-out predictions (Wolpert 1992,
    Breiman 1996).
    Equation: f = x . a + z . b + h . s + sum over landmarks of near_t(z) (c_t + d_t w . w') + near_t(h) e_t
    + i, and h = the same of x, z and w; the parts stand at the top of the file.
    Under g: unchanged, since cores, their squares and spectra depend on u v^T alone. Symmetry: GL(r).
    Numbers learned: k for each number of x, z and h and 8 k a landmark; as many for each hint, of which there
    are at most `hints`; the directions (c sum (n + m)), the map to w, and z, w and h of the landmarks. None of
    these grows with the training set.
    Cost: O((c r + r^2) sum (n + m)) per LoRA, then O(L c^2 + landmarks F). Fitting N LoRAs: ten eigenvalue
    problems of N x N, shared by all targets but for rows without a label.
    Any rank; missing layers are zero, and the others then weigh more. Which are missing is told beside.

    Args:
        width: directions c of a layer's outputs and inputs, as many as the limits of `cores` allow by default.
        landmarks: most training LoRAs that `near`, `turned` and hints compare with.
        components: principal components w of the cores.
        hints: most numbers of h; 0 for no second look.
    """

    name: ClassVar[str] = "fusion"
    symmetry: ClassVar[Symmetry] = Symmetry.GL
    accepts_missing: ClassVar[bool] = True
    accepts_magnitudes: ClassVar[bool] = True
    reads_beside: ClassVar[bool] = True

    typical: Tensor
    hint_typical: Tensor

    def __init__(
        self,
        signature: Signature,
        out_features: int,
        *,
        rank: int,
        width: int | None = None,
        landmarks: int = 1000,
        components: int = 64,
        hints: int = 32,
    ) -> None:
        super().__init__(signature, out_features, rank=rank, choose_by="left_out")
        self.options: dict[str, Any] = {
            "width": width,
            "landmarks": landmarks,
            "components": components,
            "hints": hints,
        }
        self.most_landmarks = landmarks
        self.cores = Cores(signature, width or default_width(signature))
        self.sizes_of = Sizes(signature, values=rank)
        self.magnitudes_of = MagnitudeFeatures(signature)
        widths = (*self.cores.widths, self.sizes_of.width + len(signature))
        self.most_components = max(1, min(components, COMPONENT_NUMBERS // widths[0]))
        self.most_hints = min(hints, max(4, HINT_NUMBERS // sum(widths)))
        self.register_buffer("present_mean", torch.ones(len(signature)))
        self.register_buffer("typical", torch.ones(()))
        self.register_fitted("components", torch.zeros(widths[0], 0))
        self.register_fitted("landmark_z", torch.zeros(0, widths[3]))
        self.register_fitted("landmark_w", torch.zeros(0, 0))
        self._register_maps(dict(zip(LINEAR, widths, strict=True)), out_features)

    def _register_maps(self, widths: Mapping[str, int], outputs: int) -> None:
        """Buffers of the map to h and of the map to the answer, all of which labels decide."""
        buffers: dict[str, Tensor] = {}
        for prefix, k in (("to_hint_", 0), ("", outputs)):
            buffers |= {prefix + name: torch.zeros(width, k) for name, width in widths.items()}
            # wide: the weights of landmarks that are near each other nearly cancel
            wide = {name: torch.zeros(0, k, dtype=torch.float64) for name in LANDMARKED}
            buffers |= {prefix + name: empty for name, empty in wide.items()}
            buffers[prefix + "intercept"] = torch.zeros(k, dtype=torch.float64)
        buffers["hint"] = torch.zeros(0, outputs)
        buffers |= {name: torch.zeros(0, outputs, dtype=torch.float64) for name in HINT}
        buffers["landmark_hint"] = torch.zeros(0, 0)
        buffers["hint_typical"] = torch.ones(())
        for name, empty in buffers.items():
            self.register_fitted(name, empty)
        self.solved = (*buffers, *OF_MAGNITUDES)

    # --- reading ------------------------------------------------------------------------------

    def features(self, batch: LoRABatch) -> Features:
        """The numbers that are compared, likeness to landmarks, and h of each LoRA."""
        self.require_fitted(self.get_buffer("landmark_z"))
        return self.compared(self._see(batch))

    def compared(self, linear: Mapping[str, Tensor]) -> Features:
        """What `score` reads of LoRAs whose numbers (b, F), in the order of `linear_names`, are given."""
        components = self.get_buffer("components")
        w = matmul_to_few(linear["core"], components)
        near = self._near(linear["sizes"], w)
        hints = self._hints(linear, near)
        return (*linear.values(), torch.stack(list(near.values()), 1), hints)

    def score(self, features: Features) -> Tensor:  # (b, k)
        """The one map that all mixtures were added up to."""
        assert isinstance(features, tuple)
        *linear, near, hints = (part for part in features if isinstance(part, Tensor))
        out = self._map(
            "",
            dict(zip(self.linear_names, linear, strict=True)),
            dict(zip(LANDMARKED, near.unbind(1), strict=True)),
        )
        if hints.shape[1]:
            out = out + (hints @ self.get_buffer("hint"))
            for name, kernel in self._alike(hints).items():
                out = out + kernel @ self.get_buffer(name)
        return out.to(self.dtype)

    def _see(self, batch: LoRABatch) -> dict[str, Tensor]:  # LINEAR: (b, F) each
        # factors of 16 bits are not widened: half as much is read
        narrow = batch.dtype.itemsize < self.dtype.itemsize and self.dtype == torch.float32
        batch = batch.to(None if narrow else self.dtype, self.device)
        roots = gram_roots(batch)
        there = batch.present.to(self.dtype) - self.get_buffer("present_mean")
        z = self.sizes_of(batch, roots).clamp(-FARTHEST, FARTHEST)
        parts = [*self.cores(batch, roots), torch.cat([z, there], 1)]
        if self.reads_magnitudes:
            parts.append(self.magnitudes_of(batch))
        return dict(zip(self.linear_names, parts, strict=True))

    @property
    def reads_magnitudes(self) -> bool:
        """Whether any training LoRA had DoRA's magnitudes."""
        return self.magnitudes_of.fitted

    @property
    def linear_names(self) -> tuple[str, ...]:
        """The numbers that are compared by inner products."""
        return (*LINEAR, MAGNITUDES) if self.reads_magnitudes else LINEAR

    @property
    def mixtures(self) -> Mapping[str, Mixture]:
        """The mixtures of the first look; those of LoRAs with magnitudes have one more."""
        if not self.reads_magnitudes:
            return MIXTURES
        return {**MIXTURES, MAGNITUDES: {MAGNITUDES: 1.0}}

    def _map(
        self, prefix: str, linear: Mapping[str, Tensor], landmarked: Mapping[str, Tensor]
    ) -> Tensor:
        """What the weights of a prefix say of numbers and of likeness to landmarks: (b, k)."""
        out = self.get_buffer(prefix + "intercept")
        for name, part in linear.items():
            out = out + matmul_to_few(part, self.get_buffer(prefix + name))
        for name, kernel in landmarked.items():
            out = out + kernel @ self.get_buffer(prefix + name).to(kernel.dtype)
        return out

    def _hints(self, linear: Mapping[str, Tensor], near: Mapping[str, Tensor]) -> Tensor:  # (b, a)
        if not len(self.get_buffer("landmark_hint")):
            return linear["core"].new_zeros(len(linear["core"]), 0)
        return self._map("to_hint_", linear, near).clamp(-FARTHEST, FARTHEST).to(self.dtype)

    def _near(self, z: Tensor, w: Tensor) -> dict[str, Tensor]:  # LANDMARKED: (b, M) each
        """`near` and `turned` between LoRAs and the landmarks."""
        near = _alike(z, self.get_buffer("landmark_z"), self.typical, NEAR)
        alike = w.double() @ self.get_buffer("landmark_w").double().T
        return near | {name: near[other] * alike for name, other in TURNED.items()}

    def _alike(self, hints: Tensor) -> dict[str, Tensor]:  # HINT: (b, M) each
        return _alike(hints, self.get_buffer("landmark_hint"), self.hint_typical, HINT)

    # --- fitting ------------------------------------------------------------------------------

    def prepare(self, batch: LoRABatch) -> None:
        """Stores directions and the statistics of sizes and magnitudes."""
        batch = batch.to(self.dtype, self.device)
        self.cores.fit(batch)
        self.sizes_of.fit(batch)
        self.magnitudes_of.fit(batch)
        self.get_buffer("present_mean").copy_(batch.present.to(self.dtype).mean(0))

    def study(self, batch: LoRABatch, held: LoRABatch | None = None) -> Study:
        """Directions, landmarks, what is seen of each LoRA, and the kernel of the cores."""
        self.prepare(batch)
        seen = [self._see(batch.select(slice(i, i + CHUNK))) for i in range(0, batch.size, CHUNK)]
        linear = {name: torch.cat([part[name] for part in seen]) for name in seen[0]}
        core = (linear["core"] @ linear["core"].T).double()
        w = self._find_components(linear["core"], core)
        self._set_landmarks(linear["sizes"], w)
        return Study(batch.size, (*linear.values(), w, core))

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
        rows = self._landmark_rows(z)
        self.register_fitted("landmark_z", z[rows].contiguous())
        self.register_fitted("landmark_w", w[rows].contiguous())
        self.typical.copy_(_typical(z[rows]))

    def _landmark_rows(self, x: Tensor) -> Tensor:
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        return order[: self.most_landmarks].sort().values.to(x.device)

    @torch.no_grad()
    def solve(self, study: Study, labels: Labels) -> None:
        """Solves all mixtures of both looks, stacks them, and adds them up into one map."""
        kernels, first = study.once((labels.key, "first"), partial(self._first, study, labels))
        hints = study.once((labels.key, "hints"), partial(self._look, kernels, first, labels))
        second: tuple[Kernels, dict[str, Smoother]] | None = None
        if hints is not None:
            self._keep_hints(kernels, *hints)
            left_out = hints[2]
            make = partial(self._second, left_out, labels.groups)
            second = study.once((labels.key, "second"), make)
        smoothers = first | (second[1] if second else {})
        duals, intercept = stack_ridges(list(smoothers.values()), labels)
        found = kernels.weights(share(kernels, self.mixtures, duals[: len(first)]))
        if second is not None:
            found |= second[0].weights(share(second[0], SECOND_LOOK, duals[len(first) :]))
        for name, weights in found.items():
            self.register_fitted(name, self._kept(name, weights))
        self.register_fitted("intercept", intercept)

    def _first(self, study: Study, labels: Labels) -> tuple[Kernels, dict[str, Smoother]]:
        """The kernels between the LoRAs with a label, and each mixture of them."""
        *parts, w, core = (part[labels.rows] for part in study.facts if part is not None)
        linear = dict(zip(self.linear_names, parts, strict=True))
        landmarked = self._near(linear["sizes"], w)
        among = self._near(self.get_buffer("landmark_z"), self.get_buffer("landmark_w"))
        grams = {"core": core[:, labels.rows]}
        kernels = Kernels(linear, landmarked, among, grams=grams, even="core")
        return kernels, smoothers_of(kernels, self.mixtures, labels.groups)

    def _look(
        self, kernels: Kernels, first: Mapping[str, Smoother], labels: Labels
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Duals, intercept and left-out predictions of h; None where nothing is known to hint at."""
        if labels.beside is None or not self.most_hints:
            return None
        known = _leading(labels.beside, self.most_hints)
        if not known.shape[1]:
            return None
        duals, intercept, left_out = stack_each(list(first.values()), known)
        return duals, intercept, left_out.clamp(-FARTHEST, FARTHEST)

    def _keep_hints(
        self, kernels: Kernels, duals: Tensor, intercept: Tensor, left_out: Tensor
    ) -> None:
        """Stores the map to h, and h of some LoRAs."""
        for name, weights in kernels.weights(share(kernels, self.mixtures, duals)).items():
            self.register_fitted("to_hint_" + name, self._kept(name, weights))
        self.register_fitted("to_hint_intercept", intercept)
        rows = self._landmark_rows(left_out)
        self.register_fitted("landmark_hint", left_out[rows].to(self.dtype))
        self.hint_typical.copy_(_typical(left_out[rows]))

    def _kept(self, name: str, weights: Tensor) -> Tensor:  # (F, k)
        """The weights of some numbers as they are stored."""
        numbers = sum(len(self.get_buffer(linear)) for linear in LINEAR) * self.out_features
        if numbers <= MAP_NUMBERS or name not in self.linear_names:
            return weights
        return weights.bfloat16().to(weights.dtype)

    def _second(
        self, left_out: Tensor, groups: Tensor | None
    ) -> tuple[Kernels, dict[str, Smoother]]:
        """The kernels between hints, and each mixture of them."""
        hints = left_out.to(self.dtype)
        among = self._alike(self.get_buffer("landmark_hint"))
        kernels = Kernels({"hint": hints}, self._alike(hints), among)
        return kernels, smoothers_of(kernels, SECOND_LOOK, groups)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # only what was fitted to LoRAs with magnitudes has weights for them, and so has its state
        for name in OF_MAGNITUDES:
            if prefix + name in state_dict:
                self.register_fitted(name, torch.zeros(0, 0))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _alike(
    x: Tensor, landmarks: Tensor, typical: Tensor, widths: Mapping[str, float]
) -> dict[str, Tensor]:  # (b, F), (M, F) -> (b, M) each
    """exp(-t |x - x'|^2 / typical) for each t."""
    # by a product, in float64: small distances survive, and it is faster than one by one in float32
    one, other = x.double(), landmarks.double()
    far = one.square().sum(1, keepdim=True) - 2 * one @ other.T + other.square().sum(1)
    far = far.clamp(min=0) / typical
    return {name: (-t * far).exp() for name, t in widths.items()}


def _typical(x: Tensor) -> Tensor:
    """The median squared distance between some LoRAs; 1 where all are alike."""
    apart = torch.pdist(x[:1000]).square()
    apart = apart[apart > 0]
    return apart.median() if apart.numel() else torch.ones(())


def _leading(x: Tensor, most: int) -> Tensor:  # (b, a) -> (b, at most `most`)
    """The columns themselves, or their leading principal components where they are too many."""
    if x.shape[1] <= most:
        return x
    centred = x - x.mean(0)
    _, turn = torch.linalg.eigh(centred.T @ centred)
    leading: Tensor = centred @ turn[:, -most:]
    return leading
